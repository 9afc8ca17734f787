"""Two Postgres with synchronous streaming replication, and a failover as CloudNativePG does it."""

from __future__ import annotations

from typing import Any

from tests.e2e.cluster.kube import Failed, Namespace, until
from tests.fault_injection.cluster.failover.servers import DATABASE, DATABASE_SECRET, Pair, server

IMAGE = "postgres:17"
# Sourced by the image when it has created the database. Its own line for all databases does not mean replication.
INITDB = 'echo "host replication all all scram-sha-256" >>"$PGDATA/pg_hba.conf"\n'
SERVE = """
docker-entrypoint.sh postgres -c max_connections=300 -c hot_standby=on -c max_slot_wal_keep_size=1GB \\
    -c ssl=on -c ssl_cert_file=/tls/tls.crt -c ssl_key_file=/tls/tls.key -c ssl_ca_file=/tls/ca.crt
"""
# Each standby has a slot of its own on the primary, which keeps the WAL that it has not had.
FOLLOW = f"""
export PGPASSWORD="$PASSWORD" PGUSER=pressroom PGHOST={DATABASE}
slot=$(hostname | tr - _)
until psql -qd pressroom -c "SELECT pg_create_physical_replication_slot('$slot')"; do sleep 1; done
pg_basebackup -D "$PGDATA" -R -X stream -c fast -S "$slot"
"""
SYNCHRONOUS = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'"


class Database(Namespace):
    """A namespace whose Postgres is the one that ``primary`` names."""

    primary = ""

    def psql(self, query: str) -> str:
        if not self.primary:
            raise Failed("there is no primary")
        return self.ask(self.primary, query)

    def ask(self, pod: str, *queries: str) -> str:
        """What the Postgres in that Pod answers to the queries, each in a transaction of its own."""
        command = [
            "exec", "-i", pod, "--", "psql", "-U", "pressroom", "-d", "pressroom", "-tA", "-v", "ON_ERROR_STOP=1",
            "-f", "-",
        ]  # fmt: skip
        return self.kubectl(*command, given=";\n".join(queries)).strip()


class Postgres(Pair):
    """A primary, and a standby that has each commit before the primary acknowledges it."""

    app = "postgres"
    namespace: Database

    def start(self) -> None:
        self.namespace.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "initdb"}, "data": {"pg_hba.sh": INITDB}}
        )
        self.switch(self.add())
        self.follow()

    def pod(self, number: int) -> dict[str, Any]:
        script = (FOLLOW if self.primary else "") + SERVE
        return server(
            self.app, number, self.node(number), IMAGE, script, "pg_isready -h 127.0.0.1 -U pressroom -q",
            (DATABASE_SECRET, "password"), PGDATA="/data/pgdata", POSTGRES_USER="pressroom", POSTGRES_DB="pressroom",
            POSTGRES_PASSWORD="$(PASSWORD)",
        )  # fmt: skip

    def switch(self, name: str) -> float:
        at = super().switch(name)
        self.namespace.primary = name
        return at

    def follow(self) -> None:
        """Start a standby, and have commits wait for it from when it streams. Raises Failed."""
        self.standby = self.add()
        until(lambda: self.namespace.psql("SELECT count(*) FROM pg_stat_replication") != "0", "the standby streams")
        self.namespace.ask(self.primary, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        until(lambda: self.namespace.psql(SYNCHRONOUS) == "1", "the standby is synchronous")

    def fail_over(self) -> tuple[float, float]:
        old, new = self.address(self.primary), self.standby
        self.namespace.primary = ""
        killed = self.kill()
        self.fence()
        gone = f"! pg_isready -q -h {old} -t 1"
        until(lambda: self.tries(new, gone), "the old primary answers no more")
        self.namespace.ask(new, "SELECT pg_promote()")
        if self.namespace.ask(new, "SELECT pg_is_in_recovery(), current_setting('synchronous_standby_names')") != "f|":
            raise Failed(f"{new} is not promoted, or waits for a standby that is not there")
        return killed, self.switch(new)
