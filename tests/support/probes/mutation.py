"""A guard switched off: a line of the real source replaced by one that lets everything through."""

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from django.db import connection


def switch_off(function: Callable[..., Any], line: str, instead: str) -> None:
    """Put ``instead`` in the place of ``line`` in a module's function. Raises AssertionError where it is not there."""
    source = inspect.getsource(function)
    assert source.count(line) == 1, f"{line!r} is not once in {function.__qualname__}: what is the guard now?"
    code = compile(f"from __future__ import annotations\n{source.replace(line, instead)}", "mutation", "exec")
    holders = [
        name
        for name, module in list(sys.modules.items())
        if name.startswith("pressroom.")
        and vars(module).get(function.__name__) is function
        and name != function.__module__
    ]
    assert holders == [], f"{holders} would go on with the guard: import the module there, not the function"
    exec(code, vars(sys.modules[function.__module__]))  # noqa: S102 - our own source


def switch_off_in_database(function: Callable[..., Any], called: str, line: str, instead: str) -> None:
    """The same in the function of the database that a module's function calls by the name ``called``.

    The database's own stays as it is; this process calls a copy. Raises AssertionError where the line is not there.
    """
    copy = f"{called}_{os.getpid()}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef(%s::regproc)", [called])
        source = cursor.fetchone()[0]
        assert source.count(line) == 1, f"{line!r} is not once in {called}: what is the guard now?"
        cursor.execute(source.replace(line, instead).replace(called, copy, 1))
    connection.close()  # children are forked from here
    switch_off(function, called, copy)
