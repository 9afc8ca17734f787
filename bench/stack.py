"""The servers for the benchmarks: PostgreSQL (durable, as installed) and Valkey in a temporary folder."""

from __future__ import annotations

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
    with services() as (folder, postgres, valkey):
        os.environ |= {
            "LOCAL": "1", "VAR_DIR": str(folder), "DATABASE_URL": postgres.url, "REDIS_URL": valkey.url,
            "DJANGO_SETTINGS_MODULE": "app.settings", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield folder
