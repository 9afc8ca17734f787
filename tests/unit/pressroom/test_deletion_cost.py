"""The cost of deleting a worker's pod: what is written to Kubernetes, and when."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from pressroom.models import Worker
from pressroom.monitoring import deletion_cost
from pressroom.monitoring.deletion_cost import ANNOTATION, DeletionCosts
from pressroom.sql import workers
from tests.support.certificates import certificates
from tests.support.ledger_rows import make_run
from tests.support.waiting import until
from tests.support.web import Asked, Exchange, Web, web


@pytest.fixture
def api() -> Iterator[Web]:
    """Kubernetes' API, which accepts everything."""
    with web(lambda exchange, asked: exchange.reply(200, b"{}")) as server:
        yield server


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    for name, text in (("namespace", "news"), ("token", "a-token\n")):
        (tmp_path / name).write_text(text)
    return tmp_path


def patched(server: Web) -> dict[str, str]:
    """The last cost of each pod."""
    found = {}
    for asked in server.asked:
        assert (asked.method, asked.headers["authorization"]) == ("PATCH", "Bearer a-token")
        assert asked.headers["content-type"] == "application/merge-patch+json"
        [(name, cost)] = json.loads(asked.body)["metadata"]["annotations"].items()
        assert name == ANNOTATION
        found[asked.path.removeprefix("/api/v1/namespaces/news/pods/")] = cost
    server.asked.clear()
    return found


def test_only_a_changed_cost_is_written(api: Web, credentials: Path) -> None:
    costs = DeletionCosts(api.url, credentials)
    costs.write({"emails@a": 2, "emails@b": 0})
    assert patched(api) == {"a": "2", "b": "0"}
    costs.write({"emails@a": 2, "emails@b": 1})
    assert patched(api) == {"b": "1"}
    costs.write({"emails@b": 1})
    costs.write({"emails@b": 1, "emails@a": 2})
    assert patched(api) == {"a": "2"}


def test_the_authority_of_a_cluster_may_lack_what_python_asks_for(
    api: Web, credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = certificates("localhost", strict=False)
    for name, text in made.items():
        (credentials / name).write_text(text)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(credentials / "tls.crt", credentials / "tls.key")
    api.socket = serving.wrap_socket(api.socket, server_side=True)
    default = ssl.create_default_context

    def of_today(**options: Any) -> ssl.SSLContext:
        context = default(**options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", of_today)
    DeletionCosts(f"https://localhost:{api.port}", credentials).write({"emails@a": 2})
    assert patched(api) == {"a": "2"}


def test_a_pod_that_is_gone_is_none_of_its_business(api: Web, credentials: Path) -> None:
    api.answer = lambda exchange, asked: exchange.reply(404, b"{}")
    DeletionCosts(api.url, credentials).write({"emails@gone": 1, "worker1": 0})
    assert patched(api) == {"gone": "1", "worker1": "0"}


def test_a_cost_that_was_refused_is_written_again(api: Web, credentials: Path) -> None:
    costs = DeletionCosts(api.url, credentials)
    api.answer = lambda exchange, asked: exchange.reply(403, b"{}")
    with pytest.raises(HTTPError):
        costs.write({"emails@a": 1})
    api.answer = lambda exchange, asked: exchange.reply(200, b"{}")
    api.asked.clear()
    costs.write({"emails@a": 1})
    assert patched(api) == {"a": "1"}


def test_one_that_is_refused_keeps_no_other_from_its_cost(api: Web, credentials: Path) -> None:
    costs = DeletionCosts(api.url, credentials)
    api.answer = lambda exchange, asked: exchange.reply(403 if asked.path.endswith("/a") else 200, b"{}")
    with pytest.raises(HTTPError):
        costs.write({"emails@a": 1, "emails@b": 2})
    assert patched(api) == {"a": "1", "b": "2"}


def test_a_worker_of_any_name_ends_nothing(api: Web, credentials: Path) -> None:
    """It may run outside of Kubernetes."""
    DeletionCosts(api.url, credentials).write({"emails@my machine/../x": 1, "worker": 0})
    assert patched(api) == {"my%20machine%2F..%2Fx": "1", "worker": "0"}


def test_the_cost_is_the_number_of_running_runs(db: None) -> None:
    now = timezone.now()
    alive, idle, dead = (
        Worker.objects.create(name=name, queues=["emails"], slots=2, started_at=now, heartbeat_at=now, dead_at=died)
        for name, died in (("emails@a", None), ("emails@b", None), ("emails@c", now))
    )
    for worker, status in ((alive, "running"), (alive, "running"), (dead, "running"), (idle, "queued")):
        make_run(
            celery_id=f"{worker.pk}-{timezone.now().timestamp()}", name="t", queue="emails", status=status,
            created_at=now, run_at=now, worker=worker,
        )  # fmt: skip
    assert workers.running_by_name() == {"emails@a": 2, "emails@b": 0}


def test_it_goes_on_after_an_outage(api: Web, credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([OSError("the database is away"), {"emails@a": 3}])

    def count() -> dict[str, int]:
        found: Any = next(counts, {"emails@a": 3})
        if isinstance(found, Exception):
            raise found
        return dict(found)

    monkeypatch.setattr(deletion_cost, "EVERY", 0.01)
    monkeypatch.setattr(workers, "running_by_name", count)
    # This thread touches no database.
    monkeypatch.setattr(deletion_cost.connection, "close", lambda: None)
    refusals = iter([503])

    def answer(exchange: Exchange, asked: Asked) -> None:
        exchange.reply(next(refusals, 200), b"{}")

    api.answer = answer
    stopping = threading.Event()
    thread = threading.Thread(target=DeletionCosts(api.url, credentials).run, args=(stopping,))
    thread.start()
    try:
        until(lambda: len(api.asked) == 2, "the refused cost is written again")
    finally:
        stopping.set()
        thread.join()
    assert patched(api) == {"a": "3"}


def test_outside_of_kubernetes_it_says_so() -> None:
    with pytest.raises(CommandError, match="no service account of Kubernetes"):
        call_command("deletion_cost")
