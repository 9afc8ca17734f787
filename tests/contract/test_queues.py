"""What is said in several places is said once, in ``app/queues.py``."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from app.celery import app as celery_app
from app.local import generated
from app.local.up import worker
from app.queues import BY_NAME, DEFAULT_QUEUE, QUEUES
from pressroom import checks
from pressroom.queues import LONGEST_TIME_LIMIT, Queue

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = {task.name: task for task in checks.our_tasks() if task.name.startswith(("app.", "pressroom."))}


def test_there_are_tasks_to_look_at() -> None:
    assert "app.accounts.tasks.send_welcome_email" in OURS


@pytest.mark.parametrize("name", OURS)
def test_every_task_goes_to_a_declared_queue(name: str) -> None:
    assert checks.queue_of(OURS[name]) in BY_NAME


@pytest.mark.parametrize("name", [entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()])
def test_every_schedule_names_a_task(name: str) -> None:
    assert name in OURS


def test_celery_knows_the_queues_of_the_table_and_no_other() -> None:
    assert set(celery_app.amqp.queues) == {queue.name for queue in QUEUES}
    assert celery_app.conf.task_default_queue == DEFAULT_QUEUE
    assert DEFAULT_QUEUE in BY_NAME
    assert not celery_app.conf.task_create_missing_queues


def test_only_json_is_read_or_written() -> None:
    conf = celery_app.conf
    assert (conf.task_serializer, conf.result_serializer, conf.accept_content) == ("json", "json", ["json"])


def test_starts_are_tracked_and_times_are_those_of_the_setting() -> None:
    assert celery_app.conf.task_track_started
    assert celery_app.conf.timezone == settings.TIME_ZONE == "Asia/Seoul"


def test_nothing_runs_longer_than_half_an_hour() -> None:
    assert LONGEST_TIME_LIMIT == 1800
    assert all(queue.time_limit <= LONGEST_TIME_LIMIT for queue in QUEUES if queue.time_limit is not None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"soft_time_limit": 20},
        {"soft_time_limit": 0},
        {"time_limit": 1801},
        {"concurrency": 0},
        {"max_attempts": 0},
        {"max_wait": 0},
    ],
)
def test_a_queue_whose_numbers_contradict_cannot_be_declared(wrong: dict[str, int]) -> None:
    right = {"concurrency": 1, "soft_time_limit": 10, "time_limit": 20, "max_attempts": 1, "max_wait": 1}
    assert Queue("x", "prefork", **right).name == "x"
    with pytest.raises(ValueError, match="queue 'x'"):
        Queue("x", "prefork", **{**right, **wrong})


def test_queues_have_names_of_their_own() -> None:
    assert len(BY_NAME) == len(QUEUES)


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_make_up_runs_a_worker_with_the_numbers_of_the_table(queue: Queue) -> None:
    command = worker(queue)
    options = {flag: command[command.index(flag) + 1] for flag in ("-Q", "-P", "-c")}
    assert options == {"-Q": queue.name, "-P": queue.pool, "-c": str(queue.concurrency)}


def test_generated_files_are_fresh() -> None:
    assert generated.stale() == []


def test_a_stale_file_is_noticed_and_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "deploy/helm/pressroom/files/queues.json"
    generated.write(tmp_path)
    assert generated.stale(tmp_path) == []
    capsys.readouterr()
    (tmp_path / name).write_text("[]\n")
    assert generated.stale(tmp_path) == [name]
    generated.write(tmp_path)
    assert {queue["name"] for queue in json.loads((tmp_path / name).read_text())} == set(BY_NAME)
    assert capsys.readouterr().out == f"written: {name}\n"


@pytest.mark.parametrize(
    ("pool", "soft", "hard"),
    [("threads", None, 10), ("threads", 5, None), ("gevent", 5, 10), ("gevent", None, None), ("prefork", None, 10)],
)
def test_a_queue_whose_pool_cannot_hold_its_limits_is_refused(pool: Any, soft: int | None, hard: int | None) -> None:
    with pytest.raises(ValueError, match=pool):
        Queue("x", pool, 1, soft, hard, max_attempts=1, max_wait=1)


def test_queues_of_threads_and_greenlets() -> None:
    assert Queue("x", "threads", 1, None, None, max_attempts=1, max_wait=1).time_limit is None
    assert Queue("x", "gevent", 1, None, 10, max_attempts=1, max_wait=1).time_limit == 10
