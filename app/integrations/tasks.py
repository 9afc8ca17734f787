"""Tasks that call other services. A task calls a service and retries what may succeed later.

Each task imports its service when it runs, because the service loads clients that few processes need.
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
"""Maximum seconds before the first retry. It doubles with each retry."""
SCHEDULABLE: dict[str, Any] = {"schedulable": True}


def _again(task: Any, error: Unavailable) -> NoReturn:
    """Retry after the delay that the other side requested, else after a back-off with full jitter.

    After the last retry, raises ``error``. Full jitter:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    from app.integrations.services import LONGEST_WAIT

    pause = error.retry_after
    if pause is None:
        pause = get_exponential_backoff_interval(BACKOFF, task.request.retries, int(LONGEST_WAIT), full_jitter=True)
    raise task.retry(exc=error, countdown=pause, max_retries=RETRIES)


@shared_task(bind=True, queue="default", **SCHEDULABLE)
def call_external_api(self: Any, url: str) -> dict[str, Any]:
    """GET a URL on a public address. Returns status, number of bytes and seconds."""
    from app.integrations import services

    try:
        answer = services.external_get(url=url)
    except services.Unavailable as error:
        _again(self, error)
    return {"status": answer.status, "bytes": len(answer.body), "seconds": round(answer.seconds, 3)}


@shared_task(bind=True, queue="default")
def notify_slack(self: Any, text: str) -> bool:
    """Post to the channel of SLACK_WEBHOOK_URL. Returns whether one is set."""
    from app.integrations import services

    try:
        return services.slack_post(text=text)
    except services.Unavailable as error:
        _again(self, error)


@shared_task(queue="default")
def ping_external() -> int:
    """Ping the URLs of PING_URLS. Returns their number. Failures are not retried: the next tick is 300 s away."""
    from app.integrations import services

    return services.pings_run()
