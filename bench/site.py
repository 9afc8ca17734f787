"""``BENCH_SITE=pressroom gunicorn bench.site``: the site, except that a new post calls a task in its transaction.

BENCH_SITE is a key of `bench.figures.SITES`: by which queue it is called.
"""

import os
from collections.abc import Callable

from app.wsgi import application  # loads Django

__all__ = ["application"]

from django.db.models.signals import post_save
from django.dispatch import receiver

from app.blog.models import Post
from bench.measure import PAYLOAD


def call_of(site: str) -> Callable[[int, str], object]:
    """Return what calls the task within a transaction."""
    if site == "pressroom":
        from bench.peers.ours import durable

        return durable.delay
    if site == "celery":
        from bench.peers.celery_acks_late import app

        return app.tasks["bench.noop"].delay_on_commit
    if site == "oban":
        from bench.peers.oban import call_in_django

        return call_in_django
    raise ValueError(f"BENCH_SITE={site}")


CALL = call_of(os.environ["BENCH_SITE"])


@receiver(post_save, sender=Post)
def call_task(instance: Post, created: bool, **_: object) -> None:
    """Call the task where the service has stored the post. This adds no savepoint, as a transaction around it would."""
    if created:
        CALL(instance.pk, PAYLOAD)
