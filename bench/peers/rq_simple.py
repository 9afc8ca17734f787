"""RQ without the fork: a job that crashes takes its worker along."""

from bench.peers.rq import rq

PEER = rq("RQ, SimpleWorker", "rq.worker.SimpleWorker")
