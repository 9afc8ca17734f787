"""PgBouncer for the tests, by ``tests.support.debian``."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from app.local.servers import Identity, Service
from tests.support.debian import PROGRAMS, binary, libraries


class PgBouncer(Service):
    """PgBouncer in transaction mode before a Postgres: each of its databases, for one role."""

    name = "pgbouncer"

    def __init__(self, folder: Path, server: str) -> None:
        super().__init__(folder)
        self.binary = binary(PROGRAMS["pgbouncer"])
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
