"""RQ as it comes: a fork a job."""

from bench.peers.rq import rq

PEER = rq("RQ", "rq.worker.Worker")
