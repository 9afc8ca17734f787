"""Loaded into a worker, its loop hangs where it tells Redis that the worker lives, as it does when Redis is gone."""

import threading
import time
from typing import Any

from celery import signals

ready = threading.Event()


@signals.worker_ready.connect
def from_now_on(**_: Any) -> None:
    ready.set()


@signals.heartbeat_sent.connect
def hang(**_: Any) -> None:
    if ready.is_set():
        print("the loop hangs", flush=True)
    while ready.is_set():
        time.sleep(0.1)
