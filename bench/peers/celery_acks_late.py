"""Celery with the settings that its documentation recommends for tasks that should outlive their worker."""

from bench.peers.stock import stock

app, PEER = stock(
    __name__,
    "Celery, acks_late",
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # Seconds after which a killed worker's messages are redelivered: about as soon as ours, not after an hour.
    broker_transport_options={"visibility_timeout": 30},
)
