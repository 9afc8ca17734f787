"""Celery as its documentation advises where work should outlive its worker."""

from bench.peers.stock import stock

app, PEER = stock(
    __name__,
    "Celery, acks_late",
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # Seconds after which a killed worker's messages come back: as soon as ours, not after the default's hour.
    broker_transport_options={"visibility_timeout": 30},
)
