"""gunicorn's processes count requests; its master tells the sum, at a port where the site is not."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.local.servers import free_port
from tests.support.processes import ROOT, Process
from tests.support.waiting import until

pytestmark = pytest.mark.slow
GUNICORN = str(ROOT / ".venv" / "bin" / "gunicorn")


def get(url: str, method: str = "GET") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def counted(port: int) -> Counter[tuple[str, ...]]:
    _, body = get(f"http://127.0.0.1:{port}/metrics")
    return Counter(
        {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
        }
    )


@pytest.fixture
def site(tmp_path: Path, transactional_db: None) -> Iterator[tuple[Process, int, int]]:
    """gunicorn as anybody would start it, its port and the metrics'; with leftovers of an earlier start."""
    folder = tmp_path / "counts"
    folder.mkdir()
    (folder / "counter_1.db").write_bytes(b"not a count")
    port, metrics = free_port(), free_port()
    process = Process(
        [GUNICORN, "app.wsgi", "--workers=2", f"--bind=127.0.0.1:{port}"],
        tmp_path / "gunicorn.log",
        METRICS_PORT=str(metrics),
        PROMETHEUS_MULTIPROC_DIR=str(folder),
    )
    try:
        process.wait_for("metrics on port")
        until(lambda: len(process.children()) == 2 and _answers(port), "both processes are there")
        yield process, port, metrics
    finally:
        process.end()


def _answers(port: int) -> bool:
    try:
        return get(f"http://127.0.0.1:{port}/admin/login/")[0] == 200
    except OSError:
        return False


def test_requests_of_all_processes_by_route_method_and_status(site: tuple[Process, int, int]) -> None:
    process, port, metrics = site
    base = f"http://127.0.0.1:{port}"
    before = counted(metrics)
    for number in range(10):
        assert get(f"{base}/admin/login/")[0] == 200
        assert get(f"{base}/api/tasks/01900000-0000-7000-8000-{number:012}/")[0] == 401
        assert get(f"{base}/no/such/{number}")[0] == 404
    get(f"{base}/admin/login/", method="BREW")

    [killed, *_] = process.children()
    os.kill(killed, signal.SIGKILL)
    until(lambda: killed not in process.children(), "it is gone")
    told = counted(metrics)

    def requests(method: str, route: str, status: str) -> float:
        key = ("pressroom_http_requests_total", method, route, status)
        return told[key] - before[key]

    assert requests("GET", "/admin/login/", "200") == 10
    assert requests("GET", "/api/tasks/<uuid:pk>/", "401") == 10, "a route is told by its template"
    assert requests("GET", "other", "404") == 10
    assert sum(value for key, value in told.items() if key[:2] == ("pressroom_http_requests_total", "other")) == 1
    timed = ("pressroom_http_request_duration_seconds_count", "GET", "/admin/login/")
    assert told[timed] - before[timed] == 10
    assert told["pressroom_http_requests_in_flight",] == 0
    assert process.stop() == 0


def test_the_site_itself_does_not_serve_them(site: tuple[Process, int, int]) -> None:
    _, port, metrics = site
    assert get(f"http://127.0.0.1:{port}/metrics")[0] == 404
    assert get(f"http://127.0.0.1:{metrics}/admin/login/")[0] == 404


def test_without_a_port_nothing_is_counted(tmp_path: Path, transactional_db: None) -> None:
    port = free_port()
    process = Process(
        [GUNICORN, "app.wsgi", f"--bind=127.0.0.1:{port}"], tmp_path / "gunicorn.log", TMPDIR=str(tmp_path)
    )
    try:
        until(lambda: _answers(port), "it answers")
        assert process.stop() == 0
        assert "metrics" not in process.output()
        assert not list(tmp_path.glob("pressroom-metrics-*"))
    finally:
        process.end()
