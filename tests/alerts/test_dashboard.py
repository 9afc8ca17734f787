"""Every expression of the dashboard is asked of a real Prometheus, which scrapes what our processes expose."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.local.dashboard import expressions
from app.local.servers import free_port
from app.observability import web_metrics as web
from app.queues import BY_NAME
from pressroom.monitoring.counters import WorkerMetrics
from pressroom.monitoring.exporter import Exporter
from pressroom.monitoring.queue_stats import Broker, Ledger, QueueFigures
from pressroom.monitoring.server import MetricsServer, metrics_of
from tests.support.debian import PROGRAMS, binary
from tests.support.waiting import until

FIGURES = QueueFigures(1, 1, 1, 1, 1, 1, 1, 1.0, 1.0, 1.0, 1.0, 1, 1)


class Everything(Collector):
    """Of a busy worker, a web process and the exporter: each scrape finds one more of all that is counted."""

    def __init__(self) -> None:
        self.worker = WorkerMetrics("emails@host", BY_NAME)
        self.exporter = Exporter()
        queues, workers = dict.fromkeys(BY_NAME, FIGURES), {"emails@host": True}
        ledger = Ledger(queues, [], workers, {"relay": 1.0}, {"prune": 0.0}, 0, 0, 1, 100)
        self.exporter.postgres._read = lambda: ledger
        self.exporter.redis._read = lambda: Broker(dict.fromkeys(BY_NAME, 1), 1, 2)
        self.exporter.apps = None  # of the apps' own tables, which are not here, there is no panel

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        worker = self.worker
        task = worker.task("probe.effect", "emails")
        for counter in (worker.succeeded, worker.retried, worker.lost):
            counter.labels(*task).inc()
        worker.count_failure(task, "KeyError")
        worker.runtime.labels(*task).observe(1)
        worker.wait.labels(*task).observe(1)
        web.REQUESTS.labels("GET", "/feed/", "200").inc()
        web.DURATION.labels("GET", "/feed/").observe(0.01)
        for registry in (worker.registry, web.REGISTRY, self.exporter.registry):
            yield from registry.collect()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; it scrapes every second."""
    program = binary(PROGRAMS["prometheus"]).with_name("prometheus")
    registry = CollectorRegistry()
    registry.register(Everything())
    server = MetricsServer(free_port(), metrics_of(registry))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    target = {"targets": [f"127.0.0.1:{server.port}"], "labels": {"namespace": "press"}}
    scrape = {"job_name": "pressroom", "scrape_interval": "1s", "static_configs": [target]}
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log,
        )  # fmt: skip
    until(lambda: is_ready(f"http://127.0.0.1:{port}"), "Prometheus is ready", timeout=60)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()
    server.shutdown()
    server.server_close()


def is_ready(prometheus: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{prometheus}/-/ready", timeout=5).status == 200)
    except OSError:
        return False


def answer(prometheus: str, expression: str) -> list[str]:
    """The values that an expression has now, as Prometheus writes them."""
    asked = expression.replace("$namespace", ".*").replace("$__rate_interval", "30s")
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": asked})
    with urllib.request.urlopen(url, timeout=10) as told:
        return [one["value"][1] for one in json.load(told)["data"]["result"]]


@pytest.mark.parametrize("expression", expressions())
def test_it_returns_data(prometheus: str, expression: str) -> None:
    values = until(lambda: answer(prometheus, expression), f"data of {expression}", timeout=60)
    assert "NaN" not in values


def test_a_wrong_expression_would_be_seen(prometheus: str) -> None:
    until(lambda: answer(prometheus, "up"), "it answers")
    assert answer(prometheus, "celery_queue_lenght") == []
    with pytest.raises(urllib.error.HTTPError):
        answer(prometheus, "rate(celery_queue_length)")
