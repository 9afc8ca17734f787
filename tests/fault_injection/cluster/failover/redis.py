"""Two Redis and three Sentinels, which choose the new master; the Service follows them, as an operator's does."""

from __future__ import annotations

from typing import Any

from tests.e2e.cluster.kube import Namespace, until
from tests.fault_injection.cluster.failover.servers import REDIS_SECRET, Pair, server

IMAGE = "redis:8"
SENTINELS = 3
PASSWORD = (REDIS_SECRET, "auth")
# No file: what a server held is gone with it, and its Pod is never started again.
SERVE = """
redis-server - <<CONF
bind * -::*
dir /data
requirepass $PASSWORD
masterauth $PASSWORD
maxmemory 192mb
maxmemory-policy noeviction
save ""
%s
CONF
"""
# The times are the defaults of the chart redis-ha.
WATCH = f"""
cat >/data/sentinel.conf <<CONF
bind * -::*
dir /data
protected-mode no
sentinel monitor mymaster %s 6379 {SENTINELS // 2 + 1}
sentinel auth-pass mymaster $PASSWORD
sentinel down-after-milliseconds mymaster 10000
sentinel failover-timeout mymaster 180000
CONF
redis-server /data/sentinel.conf --sentinel
"""
KNOW_EACH_OTHER = f"redis-cli -p 26379 info sentinel | grep -q sentinels={SENTINELS}"
ANSWERS = '[ "$(REDISCLI_AUTH="$PASSWORD" redis-cli ping)" = PONG ]'
IN_SYNC = 'REDISCLI_AUTH="$PASSWORD" redis-cli info replication | grep -q master_link_status:up'
IS_MASTER = '[ "$(REDISCLI_AUTH="$PASSWORD" redis-cli role | head -1)" = master ]'


class Redis(Pair):
    """A master, a replica and the Sentinels."""

    app = "redis"

    def __init__(self, namespace: Namespace, nodes: list[str]) -> None:
        super().__init__(namespace, nodes)
        self.sentinels: list[str] = []

    def start(self) -> None:
        self.switch(self.add())
        watch = WATCH % self.address(self.primary)
        ready = "[ $(redis-cli -p 26379 ping) = PONG ]"
        made = [
            server("sentinel", number, self.node(number), IMAGE, watch, ready, PASSWORD)
            for number in range(1, SENTINELS + 1)
        ]
        self.namespace.apply(*made)
        self.sentinels = [one["metadata"]["name"] for one in made]
        names = [f"pod/{name}" for name in self.sentinels]
        self.namespace.kubectl("wait", "--for=condition=Ready", *names, "--timeout=120s")
        self.follow()
        for name in self.sentinels:
            until(lambda name=name: self.tries(name, KNOW_EACH_OTHER), "the Sentinels know each other")

    def pod(self, number: int) -> dict[str, Any]:
        follow = f"replicaof {self.address(self.primary)} 6379" if self.primary else ""
        return server(self.app, number, self.node(number), IMAGE, SERVE % follow, ANSWERS, PASSWORD)

    def follow(self) -> None:
        """Start a replica, and wait until it is in sync and every Sentinel knows it. Raises Failed."""
        self.standby = self.add()
        until(lambda: self.tries(self.standby, IN_SYNC), "the replica is in sync")
        known = f"redis-cli -p 26379 sentinel replicas mymaster | grep -qF {self.address(self.standby)}"
        for name in self.sentinels:
            until(lambda name=name: self.tries(name, known), f"{name} knows the replica")

    def fail_over(self) -> tuple[float, float]:
        new = self.standby
        address = self.address(new)
        killed = self.kill()
        self.fence()
        chosen = f"redis-cli -p 26379 sentinel get-master-addr-by-name mymaster | grep -qxF {address}"
        until(lambda: self.tries(self.sentinels[0], chosen), "the Sentinels have chosen", timeout=400.0)
        until(lambda: self.tries(new, IS_MASTER), "it is the master")
        return killed, self.switch(new)
