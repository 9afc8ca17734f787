"""The main job, through the API with real workers: whatever Redis does, requests are answered and mail goes out."""

from collections import Counter
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from app.accounts.models import User
from app.accounts.services import user_make_author
from app.blog.models import Delivery
from app.blog.subscriptions.services import subscriptions_add
from pressroom.models import Status, TaskRun
from tests.support.probes.ledger import done
from tests.support.processes import Process, Stack
from tests.support.waiting import until
from tests.unit.conftest import client_of


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    return tmp_path / "mail"


@pytest.fixture
def workers(stack: Stack, tmp_path: Path) -> Process:
    """A relay and a worker whose mail goes to this test's folder."""
    stack.relay()
    return stack.worker(VAR_DIR=str(tmp_path))


@pytest.fixture
def author(transactional_db: None) -> APIClient:
    user = User.objects.create_user("author", "author@example.com", "a-long-passphrase-1")
    user_make_author(user)
    subscriptions_add(author=user, emails=(f"s{number}@example.com" for number in range(300)))
    return client_of(user)


def addresses(mails: Path) -> Counter[str]:
    return Counter(message_from_bytes(path.read_bytes())["To"] for path in mails.glob("*.eml"))


def publish(client: APIClient) -> list[dict[str, Any]]:
    post = client.post("/api/posts/", {"title": "News", "body": "A table does not forget."}).json()
    answer = client.post(f"/api/posts/{post['id']}/publish/")
    assert answer.status_code == 200
    tasks: list[dict[str, Any]] = answer.json()["tasks"]
    return tasks


@pytest.mark.parametrize("fault", ["none", "stopped", "hanging"])
def test_register_and_publish(author: APIClient, workers: Process, mails: Path, redis_server: Any, fault: str) -> None:
    if fault == "stopped":
        redis_server.stop()
    elif fault == "hanging":
        redis_server.pause(8_000)
    registered = APIClient().post(
        "/api/auth/register/", {"username": "new", "email": "new@example.com", "password": "a-long-passphrase-1"}
    )
    assert registered.status_code == 201
    tasks = publish(author)
    assert len(tasks) == 3
    if fault == "stopped":
        assert not addresses(mails)
        redis_server.start()
    until(done, "every task is done")

    assert set(TaskRun.objects.values_list("status", flat=True)) == {Status.SUCCEEDED}
    assert addresses(mails) == Counter(["new@example.com", *(f"s{number}@example.com" for number in range(300))])
    told = next(task for task in tasks if task["name"].endswith("notify_subscribers"))
    assert author.get(told["url"]).json()["progress"] == {"current": 300, "total": 300, "message": "mails"}
    assert author.get("/api/posts/?q=forget").json()["results"], "it was indexed"


def test_a_killed_notification_goes_on_where_it_stopped(
    author: APIClient, stack: Stack, workers: Process, mails: Path, tmp_path: Path
) -> None:
    publish(author)
    until(lambda: Delivery.objects.count() >= 20, "some are told")
    workers.kill()
    told_before = Delivery.objects.count()
    assert told_before < 300
    stack.worker(VAR_DIR=str(tmp_path))
    until(done, "every task is done")

    assert TaskRun.objects.filter(name__endswith="notify_chunk", attempt=2).count() in (1, 2)
    sent = addresses(mails)
    assert set(sent) == {f"s{number}@example.com" for number in range(300)}
    # Nobody recorded is mailed again: those in flight at the kill, one in each slot, may be.
    assert sum(sent.values()) <= 302


def test_one_failing_task_leaves_the_others_and_the_answer_alone(
    author: APIClient, stack: Stack, mails: Path, tmp_path: Path
) -> None:
    stack.relay()
    tmp_path.joinpath("mail").write_text("a file where the mail folder should be")
    stack.worker(VAR_DIR=str(tmp_path))
    publish(author)
    until(lambda: TaskRun.objects.filter(status=Status.SUCCEEDED).count() == 2, "two are done")

    rest = TaskRun.objects.exclude(status=Status.SUCCEEDED)
    # The chunks are called once the posts' subscribers are counted.
    until(
        lambda: {run.name.rpartition(".")[2] for run in rest.all()} == {"notify_subscribers", "notify_chunk"},
        "only the mailing is left",
    )
    failing = until(lambda: rest.filter(status=Status.RETRYING).first(), "it is tried again later")
    assert failing.name.endswith("notify_chunk")
    assert "mail" in failing.error
