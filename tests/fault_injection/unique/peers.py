"""The same tasks with stock Celery and the two libraries for unique calls, as their documentation sets them up.

celery-once unlocks before the run or after it; celery-singleton after it. Neither knows a period of seconds.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery_once import QueueOnce
from celery_singleton import Singleton

from tests.fault_injection.unique.judge import DONE, WAITING
from tests.fault_injection.unique.tasks import noted

REDIS = os.environ["REDIS_URL"]
app = Celery("peers", broker=f"{REDIS}/0", backend=f"{REDIS}/1")
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_default_queue="default",
    worker_prefetch_multiplier=1,
    ONCE={"backend": "celery_once.backends.Redis", "settings": {"url": f"{REDIS}/2", "default_timeout": 3600}},
)
app.set_default()
ONCE = {"graceful": True, "keys": ["key"]}


@app.task(name="once.while_waiting", base=QueueOnce, bind=True, once=ONCE | {"unlock_before_run": True})
def once_while_waiting(self: Any, key: str, number: int) -> None:
    noted(WAITING, key, self.request.id)


@app.task(name="once.until_done", base=QueueOnce, bind=True, once=ONCE)
def once_until_done(self: Any, key: str, number: int) -> None:
    noted(DONE, key, self.request.id)


@app.task(name="singleton.until_done", base=Singleton, bind=True, unique_on=["key"])
def singleton_until_done(self: Any, key: str, number: int) -> None:
    noted(DONE, key, self.request.id)


TASKS = {
    "celery-once": {WAITING: once_while_waiting, DONE: once_until_done},
    "celery-singleton": {DONE: singleton_until_done},
}
