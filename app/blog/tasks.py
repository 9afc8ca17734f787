"""Slow work for posts. A task fetches by id and calls a service."""

from __future__ import annotations

import logging
from smtplib import SMTPException
from typing import Any

from celery import shared_task

from app.blog import services
from app.blog.models import Post
from app.taskruns.progress import report_progress

logger = logging.getLogger(__name__)

TURN = 60.0
"""Seconds of mailing after which `notify_subscribers` goes to the end of its queue."""


@shared_task(
    bind=True, queue="emails", autoretry_for=(OSError, SMTPException), retry_backoff=True, retry_backoff_max=600
)
def notify_subscribers(self: Any, post_id: int) -> int:
    """Tell every subscriber of a post. Killed, failed or out of turn, it goes on where it stopped.

    Returns how many have been told of the post.
    """
    post = Post.objects.filter(pk=post_id, status=Post.Status.PUBLISHED).first()
    if post is None:
        logger.info("post %s is gone or a draft: nobody is told", post_id)
        return 0
    left = services.subscribers_notify(
        post=post, seconds=TURN, progress=lambda done, of: report_progress(done, of, "mails")
    )
    if left:
        # The same run with its progress, queued anew: a long list does not hold the queue up.
        raise self.replace(self.si(post_id))
    return post.deliveries.count()


@shared_task(queue="default")
def reindex_post(post_id: int) -> bool:
    """Bring the post's search index up to date. Returns whether there is such a post."""
    return services.post_reindex(post_id=post_id)


@shared_task(queue="default")
def invalidate_caches(post_id: int) -> None:
    """Forget what was rendered without the post. The cache fails open: what stays ends by its own time."""
    services.caches_invalidate()
