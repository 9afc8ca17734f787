"""The database functions, one file each, and how a migration creates them.

Every task needs these statements. To plan one took longer than to run it. Postgres keeps a function's plan as long as
the connection lives, through PgBouncer too, where a client's prepared statements do not work. A plan made for an empty
table would read a full one from end to end, so each function forbids such plans. It also forbids compilation (jit),
which takes a second each time.

A function's name ends in a number. To change a function, give it the next number in its file and at its caller, and
load the file in a new migration. Old code still runs while a release is rolled out, and it calls the old function.
"""

from __future__ import annotations

import re
from importlib.resources import files

from django.db.migrations import RunSQL


def names() -> list[str]:
    """The file of each function, without its ending."""
    return sorted(file.name.removesuffix(".sql") for file in files(__name__).iterdir() if file.name.endswith(".sql"))


def source(name: str) -> str:
    """The statement in ``name``'s file. Raises FileNotFoundError."""
    return (files(__name__) / f"{name}.sql").read_text()


def create(name: str) -> RunSQL:
    """The migration's operation that creates the function in ``name``'s file, and drops it when it is undone."""
    statement = source(name)
    found = re.search(r"CREATE OR REPLACE FUNCTION (\w+)\(", statement)
    assert found is not None, f"{name}.sql creates no function"
    return RunSQL(statement, f"DROP FUNCTION IF EXISTS {found[1]}")
