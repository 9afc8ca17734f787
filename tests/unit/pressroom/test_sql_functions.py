"""The database functions are what their files say."""

from __future__ import annotations

import re

import pytest
from django.db import connection

from pressroom.sql import functions

pytestmark = pytest.mark.django_db


def definitions() -> dict[str, str]:
    """Each function of the ledger in the database, by its name, as Postgres writes it."""
    with connection.cursor() as cursor:
        cursor.execute(r"SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE 'taskruns\_%'")
        return dict(cursor.fetchall())


def test_a_migrated_database_holds_what_the_files_say() -> None:
    migrated = definitions()
    with connection.cursor() as cursor:
        for name in functions.names():
            cursor.execute(functions.source(name))
    assert definitions() == migrated
    assert len(migrated) == len(functions.names()) > 0


@pytest.mark.parametrize("name", functions.names())
def test_each_file_says_who_calls_it(name: str) -> None:
    caller = re.search(r"Called by\s(?:-- )?(pressroom\.[\w.]+)", functions.source(name))
    assert caller is not None
    module, _, function = caller[1].rstrip(".").rpartition(".")
    source = __import__(module, fromlist=[function]).__file__
    called = re.search(r"CREATE OR REPLACE FUNCTION (\w+)\(", functions.source(name))
    assert called is not None
    with open(source) as file:
        text = file.read()
    assert f"def {function}(" in text
    assert called[1] in text
