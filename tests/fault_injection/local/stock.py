"""Stock Celery, set up as its documentation advises where nothing may be lost."""

import os

from celery import Celery
from django.conf import settings

# As long as a killed worker's messages stay away; the longest task takes a tenth of a second.
VISIBILITY_TIMEOUT = float(os.environ["VISIBILITY_TIMEOUT"])


# It is there to be compared with the ledger.
settings.SILENCED_SYSTEM_CHECKS = [*settings.SILENCED_SYSTEM_CHECKS, "pressroom.E097"]
app = Celery("stock", broker=f"{os.environ['REDIS_URL']}/0", backend=f"{os.environ['REDIS_URL']}/1")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": VISIBILITY_TIMEOUT},
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    task_default_queue="default",
)
app.set_default()
