"""Real services for the tests, started before Django's settings are read (``-p tests.support.plugin``).

Of the environment only ``DATABASE_URL`` is heeded: an empty test database is made there. Redis is always our own:
tests empty it and take it down. ``TEST_POSTGRES`` and ``TEST_REDIS`` choose other programs for the servers that are
started here (``tests/matrix``).
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.local.running import settings_names as settings_names  # noqa: PLC0414 - other tests ask here
from app.local.servers import Postgres, Valkey, data_folder

_folder = Path(tempfile.mkdtemp(prefix="pressroom-tests-"))
_data = data_folder(_folder)
Postgres.programs = os.environ.get("TEST_POSTGRES") or Postgres.programs
Valkey.program = os.environ.get("TEST_REDIS") or Valkey.program
_postgres = Postgres(_data, durable=False)
_valkey = Valkey(_data, persist=False)


# At import: Django's plugin reads the settings before any hook of ours is called.
for _name in settings_names() - {"DATABASE_URL"}:
    os.environ.pop(_name, None)
os.environ |= {"LOCAL": "1", "VAR_DIR": str(_folder), "STATIC_ROOT": str(_folder / "static")}
(_folder / "static").mkdir()


def _end() -> None:
    _valkey.stop()
    _postgres.stop()
    shutil.rmtree(_data, ignore_errors=True)
    shutil.rmtree(_folder, ignore_errors=True)


atexit.register(_end)
if not os.environ.get("DATABASE_URL"):
    _postgres.start()
    os.environ["DATABASE_URL"] = _postgres.url
_valkey.start()
os.environ["REDIS_URL"] = _valkey.url


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failed run: what is not tried is not known to work."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


class RedisServer:
    """The tests' Redis, which may be taken down and brought back on its port."""

    @property
    def url(self) -> str:
        return _valkey.url

    start = staticmethod(_valkey.start)
    stop = staticmethod(_valkey.stop)
    client = staticmethod(_valkey.client)

    def pause(self, milliseconds: int) -> None:
        """Let it take connections and commands, but answer none for so long."""
        self.client().execute_command("CLIENT", "PAUSE", milliseconds, "ALL")


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """Redis, empty; whatever a test did to it is undone after it."""
    server = RedisServer()
    server.client().flushall()
    yield server
    try:
        server.client(socket_timeout=1.0).flushall()
    except redis.RedisError:
        # Stopped, or paused: a new one answers at once, and is empty.
        server.stop()
        server.start()


class StrayConnection(BaseException):
    """A test has tried to reach another machine. Not an Exception: the code under test shall not swallow it."""


LOOPBACK = re.compile(r"127\.\d+\.\d+\.\d+|::1|localhost|::ffff:127\.\d+\.\d+\.\d+|")


def _forbid_other_machines(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg") and isinstance(arguments[-1], tuple):
        host = arguments[-1][0]
    else:
        return
    name = host.decode() if isinstance(host, bytes) else host
    if name is not None and not LOOPBACK.fullmatch(name):
        raise StrayConnection(f"{event} {name}: tests talk to this machine only")


sys.addaudithook(_forbid_other_machines)
