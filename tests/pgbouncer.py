"""PgBouncer for the tests: Debian's, unpacked into .tools/debian/ without root by ``python -m tests.pgbouncer``.

A system's own will do as well. Where there is neither apt-get nor that, the tests that want it are skipped.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from app.local.services import PROJECT, Identity, Service

HOME = PROJECT / ".tools" / "debian"
# What it is linked with, and a small system lacks; names differ by release (libcares2, libevent-2.1-7t64).
LIBRARIES = re.compile(r"^Inst (lib(?:c-?ares|event|pam0|ssl|systemd)\S*)", re.MULTILINE)


def main() -> None:
    """Fetch and unpack, where that was not done. Says why when it cannot be, which is no error."""
    if HOME.exists() or not shutil.which("apt-get"):
        return
    HOME.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME.parent) as temporary:
        folder = Path(temporary)
        try:
            try:
                fetch(folder)
            except subprocess.CalledProcessError:
                # A fresh machine has no lists of packages; only root may get them.
                run("apt-get", "-qq", "update")
                fetch(folder)
            for package in folder.glob("*.deb"):
                run("dpkg-deb", "-x", str(package), str(folder / "root"))
        except (subprocess.CalledProcessError, OSError) as error:
            told = getattr(error, "stderr", "") or str(error)
            print(f"no PgBouncer, its tests will be skipped: {told.strip()}", file=sys.stderr)
        else:
            (folder / "root").rename(HOME)


def fetch(folder: Path) -> None:
    simulated = run("apt-get", "-s", "--no-install-recommends", "install", "pgbouncer")
    wanted = ["pgbouncer", *LIBRARIES.findall(simulated)]
    run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *wanted, at=folder)


def run(*command: str, at: Path = PROJECT) -> str:
    return subprocess.run(command, cwd=at, capture_output=True, text=True, check=True).stdout


def binary() -> Path:
    """The program, from here or the system's own. Skips the test where there is none."""
    for there in (HOME / "usr/sbin/pgbouncer", Path("/usr/sbin/pgbouncer")):
        if there.exists():
            return there
    pytest.skip("no PgBouncer: `make test` brings it where there is apt-get")


def libraries() -> dict[str, str]:
    """The environment of a program that is linked with what was unpacked."""
    folders = sorted({str(path.parent) for path in HOME.glob("usr/lib/*/lib*.so*")})
    return {"LD_LIBRARY_PATH": os.pathsep.join(folders)} if folders else {}


class PgBouncer(Service):
    """PgBouncer in transaction mode before a Postgres: each of its databases, for one role."""

    name = "pgbouncer"

    def __init__(self, folder: Path, server: str) -> None:
        super().__init__(folder)
        self.binary = binary()
        self.server = urlsplit(server)
        # It gives root away by itself, after it was loaded from where another user may not look.
        self.drops_to, self.identity = self.identity["user"], Identity(user=None, group=None, extra_groups=None)

    @property
    def url(self) -> str:
        """As the server's."""
        return self.server._replace(netloc=f"{self.server.netloc.partition('@')[0]}@127.0.0.1:{self.port}").geturl()

    def prepare(self) -> None:
        super().prepare()
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": self.data / "users",
            "pool_mode": "transaction",
            "default_pool_size": 20,
            "max_client_conn": 500,
            # In place of 120 s and 15 s, in which a request would wait for a Postgres that is gone.
            "query_wait_timeout": 2,
            "server_login_retry": 1,
        }
        if self.drops_to is not None:
            lines["user"] = pwd.getpwuid(self.drops_to).pw_name
            os.chown(self.data, self.drops_to, -1)
        server = f"host=127.0.0.1 port={self.server.port}"
        text = "\n".join(["[databases]", f"* = {server}", "[pgbouncer]", *(f"{k} = {v}" for k, v in lines.items())])
        (self.data / "pgbouncer.ini").write_text(text + "\n")
        (self.data / "users").write_text(f'"{self.server.username}" "{self.server.password}"\n')
        (self.data / "users").chmod(0o644)

    def command(self) -> list[str]:
        variables = [f"{name}={value}" for name, value in libraries().items()]
        return ["/usr/bin/env", *variables, str(self.binary), str(self.data / "pgbouncer.ini")]

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


if __name__ == "__main__":
    main()
