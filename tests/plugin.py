"""Real services for the tests, started before Django's settings are read (``-p tests.plugin``).

``DATABASE_URL`` in the environment is used instead, where given. Redis is always our own: tests take it down.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.local.services import Postgres, Valkey, data_folder

_folder = Path(tempfile.mkdtemp(prefix="pressroom-tests-"))
_data = data_folder(_folder)
_postgres = Postgres(_data, durable=False)
_valkey = Valkey(_data, persist=False)


# At import: Django's plugin reads the settings before any hook of ours is called.
os.environ |= {"LOCAL": "1", "VAR_DIR": str(_folder)}
if "DATABASE_URL" not in os.environ:
    _postgres.start()
    os.environ["DATABASE_URL"] = _postgres.url
_valkey.start()
os.environ["REDIS_URL"] = _valkey.url


def pytest_unconfigure() -> None:
    _valkey.stop()
    _postgres.stop()
    shutil.rmtree(_data, ignore_errors=True)
    shutil.rmtree(_folder, ignore_errors=True)


class RedisServer:
    """The tests' Redis, which may be taken down and brought back on its port."""

    url = _valkey.url
    start = staticmethod(_valkey.start)
    stop = staticmethod(_valkey.stop)
    client = staticmethod(_valkey.client)

    def pause(self, milliseconds: int) -> None:
        """Let it take connections and commands, but answer none for so long."""
        self.client().execute_command("CLIENT", "PAUSE", milliseconds, "ALL")


@pytest.fixture
def redis_server() -> Iterator[Any]:
    """Redis, empty; whatever a test did to it is undone after it."""
    server = RedisServer()
    server.client().flushall()
    yield server
    try:
        server.client(socket_timeout=1.0).flushall()
    except redis.RedisError:
        # Stopped, or paused: a new one answers at once.
        server.stop()
        server.start()
