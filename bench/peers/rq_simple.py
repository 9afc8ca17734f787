"""RQ without a fork per job: a job that crashes ends its worker."""

from bench.peers.rq import rq

PEER = rq("RQ, SimpleWorker", "rq.worker.SimpleWorker")
