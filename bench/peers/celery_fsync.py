"""The same as celery_acks_late, on a Valkey that syncs each write to the disk, as Postgres does with each commit."""

from bench.peers.stock import ACKS_LATE, stock

app, PEER = stock(__name__, "Celery, acks_late, appendfsync always", **ACKS_LATE)
