"""The servers for the benchmarks: PostgreSQL (durable, as installed) and Valkey in a temporary folder."""

from __future__ import annotations

import datetime
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.local.servers import Postgres, Valkey, data_folder


@contextmanager
def services() -> Iterator[tuple[Path, Postgres, Valkey]]:
    """Run both servers. Yields a folder for other files, and the servers."""
    folder = Path(tempfile.mkdtemp(prefix="pressroom-bench-"))
    data = data_folder(folder)
    postgres, valkey = Postgres(data), Valkey(data)
    try:
        postgres.start()
        valkey.start()
        yield folder, postgres, valkey
    finally:
        valkey.stop()
        postgres.stop()
        shutil.rmtree(data, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def stack() -> Iterator[Path]:
    """Run both servers with the schema, for Django in this process and its children. Yields a folder."""
    with stack_with_services() as (folder, _):
        yield folder


@contextmanager
def stack_with_services() -> Iterator[tuple[Path, Postgres]]:
    """As `stack`. Yields a folder, and the PostgreSQL server."""
    with services() as (folder, postgres, valkey):
        os.environ |= {
            "LOCAL": "1", "VAR_DIR": str(folder), "DATABASE_URL": postgres.url, "REDIS_URL": valkey.url,
            "DJANGO_SETTINGS_MODULE": "app.settings", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield folder, postgres


def installed_before(days: int) -> None:
    """Make the ledger's partitions as if it had been installed so many days ago. No run is stored yet."""
    from django.db import connection

    from pressroom.sql import history

    today = datetime.datetime.now(datetime.UTC).date()
    with connection.cursor() as cursor:
        for table in history.KEYS:
            cursor.execute(f"ALTER TABLE {table} DETACH PARTITION {table}_old; DROP TABLE {table}_old")
    history.attach_old(today - datetime.timedelta(days=days))
    for number in range(days, 0, -history.AHEAD):
        history.make_ahead(today - datetime.timedelta(days=number))
