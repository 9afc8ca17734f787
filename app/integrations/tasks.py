"""Calls to the world outside. A task calls a service, and tries again what may work later.

The service is imported where it is called: it loads clients that few processes need.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

from celery import shared_task
from celery.utils.time import get_exponential_backoff_interval

if TYPE_CHECKING:
    from app.integrations.services import Unavailable

logger = logging.getLogger(__name__)

RETRIES = 5
BACKOFF = 30
"""Seconds: the longest pause before the first retry; it doubles with each."""
SCHEDULABLE: dict[str, Any] = {"schedulable": True}


def _again(task: Any, error: Unavailable) -> NoReturn:
    """Retry after what the other side has asked for, else after a back-off with full jitter; raises ``error`` at last.

    Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    from app.integrations.services import LONGEST_WAIT

    pause = error.retry_after
    if pause is None:
        pause = get_exponential_backoff_interval(BACKOFF, task.request.retries, int(LONGEST_WAIT), full_jitter=True)
    raise task.retry(exc=error, countdown=pause, max_retries=RETRIES)


@shared_task(bind=True, queue="default", **SCHEDULABLE)
def call_external_api(self: Any, url: str) -> dict[str, Any]:
    """GET a URL of a public address. Returns status, bytes and seconds."""
    from app.integrations import services

    try:
        answer = services.external_get(url=url)
    except services.Unavailable as error:
        _again(self, error)
    return {"status": answer.status, "bytes": len(answer.body), "seconds": round(answer.seconds, 3)}


@shared_task(bind=True, queue="default")
def notify_slack(self: Any, text: str) -> bool:
    """Tell the channel of SLACK_WEBHOOK_URL. Returns whether there is one."""
    from app.integrations import services

    try:
        return services.slack_post(text=text)
    except services.Unavailable as error:
        _again(self, error)


@shared_task(queue="default")
def ping_external() -> int:
    """Ping the addresses of PING_URLS. Returns how many. Not retried: the next is 300 s away."""
    from app.integrations import services

    return services.pings_run()
