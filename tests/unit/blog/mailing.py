"""Execute the runs of a mailing in this process, one after the other, as workers would."""

from __future__ import annotations

from collections.abc import Callable

from django.db.models.functions import Now

from app.blog.models import MailOutage, Post
from app.blog.subscriptions.services import subscriptions_add
from app.blog.tasks import notify_subscribers
from pressroom.models import LiveRun, TaskRun
from tests.support.probes import here

MAILING, CHUNK = "app.blog.tasks.notify_subscribers", "app.blog.tasks.notify_chunk"


def subscribe(count: int) -> None:
    emails = (f"s{number}@example.com" for number in range(count))
    subscriptions_add(author=Post.objects.get().author, emails=emails)


def start(post: Post) -> TaskRun:
    return TaskRun.of(notify_subscribers.delay(post.pk))


def due() -> TaskRun | None:
    """The run that is due next."""
    waiting = LiveRun.objects.filter(status__in=("queued", "retrying"), run_at__lte=Now())
    pk = waiting.order_by("run_at", "pk").values_list("pk", flat=True).first()
    return None if pk is None else TaskRun.objects.get(pk=pk)


def chunk_runs() -> list[TaskRun]:
    """The runs of chunks that wait, in the order of their subscribers."""
    waiting = LiveRun.objects.filter(name=CHUNK, status__in=("queued", "retrying"))
    found = [TaskRun.objects.get(pk=pk) for pk in waiting.values_list("pk", flat=True)]
    return sorted(found, key=lambda run: run.arguments[0][1])


def work(most: int = 1000) -> int:
    """Execute what is due until nothing is. Returns the number of executions."""
    for number in range(most):
        run = due()
        if run is None:
            return number
        here.execute(run)
    raise AssertionError(f"still not done after {most} executions")


def pass_time() -> None:
    """Make everything due that waits for a later time."""
    LiveRun.objects.update(run_at=Now())
    MailOutage.objects.update(retry_at=Now())


def work_to_the_end(after_each_pause: Callable[[], object] = lambda: None, most: int = 100) -> int:
    """Execute everything, without waiting in pauses. Returns how often time had to pass."""
    for pauses in range(most):
        work()
        if not LiveRun.objects.exists():
            return pauses
        after_each_pause()
        pass_time()
    raise AssertionError(f"still not done after {most} pauses")
