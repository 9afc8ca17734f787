"""The site's settings, with a limit of the queue beside those of the tasks."""

import dataclasses

from app.settings import *  # noqa: F403
from app.settings import TASKRUNS_QUEUES as QUEUES
from tests.fault_injection.limits.judge import QUEUE, QUEUE_AT_ONCE

TASKRUNS_QUEUES = tuple(
    dataclasses.replace(queue, most_at_once=QUEUE_AT_ONCE) if queue.name == QUEUE else queue for queue in QUEUES
)
