"""RQ with its defaults: one fork per job."""

from bench.peers.rq import rq

PEER = rq("RQ", "rq.worker.Worker")
