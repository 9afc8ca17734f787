"""A project of somebody's own on the chart: its image, its queues, its web or none. docs/adopt.md."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from app.queues import QUEUES
from pressroom.process import environment
from pressroom.queues import LONGEST_TIME_LIMIT, MOST, Pool, Queue, as_values, rows
from tests.chart.tools import CHART, Manifest, Refused, one, pod_of, pods, render
from tests.chart.tools import environment as variables

ADOPTED = ("-f", str(CHART / "ci" / "adopted-values.yaml"))
OURS = yaml.safe_load((CHART / "ci" / "adopted-values.yaml").read_text())
SIZING = json.loads((CHART / "files" / "sizing.json").read_text())
GUNICORN = ["gunicorn", "mysite.wsgi", "--bind", "[::]:8080"]
WEB = {"web": {"enabled": True, "command": GUNICORN, "containerPort": 8080}}


def queue(name: str = "default", pool: str = "prefork", **changed: Any) -> dict[str, Any]:
    soft, hard = (300 if pool == "prefork" else None), (360 if pool in ("prefork", "gevent") else None)
    return {"name": name, "pool": pool, "concurrency": 2, "soft_time_limit": soft, "time_limit": hard, **changed}


def adopted(values: dict[str, Any] | None = None, **options: str) -> list[Manifest]:
    return render(values, *ADOPTED, **options)


def commands(manifests: list[Manifest]) -> dict[str, list[str]]:
    """By component, what each pod of the project's image runs."""
    return {
        re.sub(r"^press-pressroom-|-[0-9a-f]{10}$", "", name): pod["containers"][0]["args"]
        for name, pod in pods(manifests).items()
        if pod["containers"][0]["name"] == "pressroom"
    }


def test_every_process_is_the_projects_and_runs_its_image() -> None:
    manifests = adopted({"idleFirst": {"enabled": True}})
    found = commands(manifests)
    assert set(found) == {
        "worker-default", "worker-mails", "beat", "relay", "exporter", "migrate", "test", "idle-first",
    }  # fmt: skip
    for name, command in found.items():
        if command[0] == "celery":
            assert command[command.index("-A") + 1] == "mysite", name
        assert not [word for word in command if re.search(r"\bapp\b", word)], name
    for pod in pods(manifests).values():
        assert pod["containers"][0]["image"] in ("mysite:1", "redis:8", "postgres:17")
    config = one(manifests, "ConfigMap", "press-pressroom")["data"]
    assert config["DJANGO_SETTINGS_MODULE"] == "mysite.settings"
    assert "DJANGO_SETTINGS_MODULE" not in one(render(), "ConfigMap", "press-pressroom")["data"]


def test_workers_follow_the_table_of_the_values() -> None:
    manifests = adopted()
    for row in OURS["queues"]:
        deployment = one(manifests, "Deployment", f"press-pressroom-worker-{row['name']}")
        pod = pod_of(deployment)
        command = pod["containers"][0]["args"]
        assert command[command.index("-Q") :][:6] == [
            "-Q", row["name"], "-n", f"{row['name']}@%h", "-P", row["pool"],
        ]  # fmt: skip
        assert command[command.index("-c") + 1] == str(row["concurrency"])
        assert pod["terminationGracePeriodSeconds"] == (row["soft_time_limit"] or row["time_limit"]) + 10
    assert one(manifests, "Deployment", "press-pressroom-worker-mails")["spec"]["replicas"] == 2
    scaled = render(
        {"queues": OURS["queues"], "autoscaling": {"provider": "keda"}, "postgres": {"maxConnections": 300}}
    )
    urls = [m["spec"]["triggers"][0]["metadata"]["url"] for m in scaled if m["kind"] == "ScaledObject"]
    assert [url.rpartition("/")[2] for url in urls] == ["default", "mails"]


def test_no_table_at_all_is_this_repositorys() -> None:
    names = [manifest["metadata"]["name"] for manifest in render()]
    for none in ([], None):
        assert [manifest["metadata"]["name"] for manifest in render({"queues": none})] == names


def test_a_large_number_of_slots_is_written_in_full() -> None:
    manifests = render({"queues": [queue(pool="threads", concurrency=2_000_000)], "postgres": {"maxConnections": 500}})
    command = pod_of(one(manifests, "Deployment", "press-pressroom-worker-default"))["containers"][0]["args"]
    assert command[command.index("-c") + 1] == "2000000"


@pytest.mark.parametrize("helm", ["HELM", "HELM3"])
def test_what_the_command_prints_is_the_table_of_the_chart(helm: str, tmp_path: Path) -> None:
    """The site's own queues, given by value: the same objects, but for what its table alone has."""
    (tmp_path / "queues.yaml").write_text(as_values(QUEUES))
    given = render(None, "-f", str(tmp_path / "queues.yaml"), version=helm)
    plain = render(None, version=helm)
    assert [m["metadata"]["name"] for m in given] == [m["metadata"]["name"] for m in plain]
    for ours, theirs in zip(given, plain, strict=True):
        if ours["kind"] == "Deployment":
            own_sizes = ours["metadata"]["name"].removeprefix("press-pressroom-worker-") in SIZING
            assert (ours == theirs) is not own_sizes
    test = commands(given)["test"]
    assert json.loads(test[test.index("--queues") + 1]) == rows(QUEUES)
    assert "--queues" not in commands(plain)["test"]


def test_the_schema_of_a_queue_is_that_of_the_class() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["definitions"]["queue"]
    found = schema["properties"]
    assert list(found) == [field.name for field in dataclasses.fields(Queue)]
    assert tuple(found["pool"]["enum"]) == get_args(Pool)
    assert {found[name]["maximum"] for name in ("soft_time_limit", "time_limit")} == {LONGEST_TIME_LIMIT}
    assert found["most_at_once"]["maximum"] == MOST


def test_without_web_nothing_is_left_of_it() -> None:
    everything = {
        "networkPolicy": {"enabled": True, "ingressNamespace": "ingress"}, "celeryExporter": {"enabled": True},
        "metrics": {"podMonitor": True, "prometheusRule": True, "dashboard": True},
    }  # fmt: skip
    found = adopted(everything)
    assert not [m for m in found if "web" in m["metadata"]["name"] or "web" in m["metadata"]["labels"].values()]
    assert not [m for m in found if "-web" in json.dumps({**m, "data": None}) and "dashboard" not in str(m)]
    assert commands(found)["test"][:3] == ["python", "manage.py", "smoke_test"]
    assert not [word for word in commands(found)["test"] if word.startswith("http")]
    config = one(found, "ConfigMap", "press-pressroom")["data"]
    assert config["ALLOWED_HOSTS"] == "localhost,127.0.0.1"
    assert not {"SITE_URL", "CSRF_TRUSTED_ORIGINS"} & set(config)
    config = one(adopted({"site": {"url": "https://x.example"}}), "ConfigMap", "press-pressroom")["data"]
    assert (config["SITE_URL"], config["ALLOWED_HOSTS"]) == ("https://x.example", "x.example,localhost,127.0.0.1")


def test_without_web_its_database_connections_do_not_count() -> None:
    limit = {"postgres": {"maxConnections": 59}}
    assert adopted(limit)
    with pytest.raises(Refused, match="database connections"):
        adopted(limit | {"web.enabled": True, "web.command": GUNICORN})


def test_web_runs_the_projects_command() -> None:
    manifests = adopted(WEB)
    [container] = pod_of(one(manifests, "Deployment", "press-pressroom-web"))["containers"]
    assert container["args"] == GUNICORN
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert container["livenessProbe"]["httpGet"] == container["startupProbe"]["httpGet"]
    # A folder for metrics that nobody makes would keep prometheus-client from being imported.
    assert not {"PROMETHEUS_MULTIPROC_DIR", "METRICS_PORT"} & {given["name"] for given in container["env"]}
    assert "http://press-pressroom-web.news.svc:80" in commands(manifests)["test"]


def test_probes_of_web_ask_what_the_values_say() -> None:
    probes = {"web.probes": {"liveness": "", "readiness": "/healthz/"}}
    [container] = pod_of(one(adopted(WEB | probes), "Deployment", "press-pressroom-web"))["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/healthz/", "port": "http"}
    for name in ("livenessProbe", "startupProbe"):
        assert container[name]["tcpSocket"] == {"port": "http"}
        assert "httpGet" not in container[name]


def test_the_librarys_settings_come_from_what_the_chart_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What each pod has in its environment is read, or is named here as the site's alone."""
    manifests = adopted(
        {**WEB, "celeryExporter": {"enabled": True}, "site": {"url": "https://x.example", "proxies": 1}}
    )
    config = one(manifests, "ConfigMap", "press-pressroom")["data"]
    worker = variables(pod_of(one(manifests, "Deployment", "press-pressroom-worker-mails")))
    given = config | {name: "secret" if isinstance(value, dict) else value for name, value in worker.items()}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    database = environment.database()
    assert (database["HOST"], database["USER"], database["NAME"]) == ("press-postgres", "pressroom", "pressroom")
    assert (database["PASSWORD"], database["ENGINE"]) == ("secret", "pressroom.database")
    assert environment.redis(1) == "redis://:secret@press-redis:6379/1"
    settings = environment.from_chart()
    assert set(settings) == set(environment.SETTINGS)
    assert (settings["TASKRUNS_GRACE"], settings["TASKRUNS_ALIVE_FILE"]) == (65.0, "/tmp/alive")  # noqa: S108 - in the pod
    assert settings["TASKRUNS_METRICS_PORT"] == 9808
    assert settings["SECURE_PROXY_SSL_HEADER"] == ("HTTP_X_FORWARDED_PROTO", "https")
    read = {variable for _, variable in environment.SETTINGS.values()}
    read |= {"DATABASE_URL", "PGPASSWORD", "REDIS_URL", "REDIS_PASSWORD", "DJANGO_SETTINGS_MODULE"}
    assert set(given) - read == {"SITE_URL", "NUM_PROXIES", "RELEASE"}


@pytest.mark.parametrize("helm", ["HELM", "HELM3"])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        # Odd queues: by the schema, with the place and what is wrong; or with a sentence.
        ({"queues": [queue(slots=2)]}, "slots"),
        ({"queues": [{"name": "default"}]}, "concurrency"),
        ({"queues": [queue(pool="processes")]}, "pool"),
        ({"queues": [queue(concurrency=0)]}, "concurrency"),
        ({"queues": [queue(concurrency="2")]}, "concurrency"),
        ({"queues": [queue(time_limit=1801)]}, "time_limit"),
        ({"queues": [queue(soft_time_limit=0)]}, "soft_time_limit"),
        ({"queues": [queue(rate="often")]}, "rate"),
        ({"queues": [queue(most_at_once=0)]}, "most_at_once"),
        ({"queues": {"default": {}}}, "queues"),
        ({"queues": [queue(), queue("Mails")]}, 'queues: the queue "Mails" has a Deployment of its name'),
        ({"queues": [queue(), queue("m" * 31)]}, "at most 30"),
        ({"queues": [queue(), queue("")]}, 'the queue "" has'),
        ({"queues": [queue(), queue()]}, 'queues: two queues are called "default"'),
        ({"queues": [queue("mails")]}, "none is called default"),
        ({"queues": [queue(time_limit=None)]}, "pool prefork needs a time_limit"),
        ({"queues": [queue(pool="threads", time_limit=9)]}, "pool threads cannot enforce time_limit (9)"),
        ({"queues": [queue(pool="gevent", soft_time_limit=9)]}, "pool gevent cannot enforce soft_time_limit (9)"),
        ({"queues": [queue(soft_time_limit=360)]}, "soft_time_limit (360) is not below time_limit (360)"),
        ({"queues": [queue()], "workers": {"mails": {"replicas": 2}}}, "workers.mails: there is no queue of this name"),
        ({"workers": {"email": {"replicas": 2}}}, f"Use one of {', '.join(queue.name for queue in QUEUES)}"),
        # Contradictions.
        ({"celery": {"app": "mysite"}}, "web.command is empty, which runs app.wsgi"),
        ({"celery": {"app": "my site"}}, "celery"),
        ({"django": {"settingsModule": "mysite/settings.py"}}, "settingsModule"),
        ({"web": {"enabled": False}, "ingress": {"enabled": True, "hosts": ["x.example"]}}, "ingress.enabled is true"),
        (
            {"web": {"enabled": False}, "httpRoute": {"enabled": True, "hosts": ["x"], "parentRefs": [{"name": "g"}]}},
            "httpRoute.enabled is true, but web.enabled is false",
        ),
        ({"web": {"enabled": False, "autoscaling": {"enabled": True}}}, "web.autoscaling.enabled is true"),
        (
            {"demo": {"enabled": True}, "celery": {"app": "mysite"}, "web": {"command": GUNICORN}},
            "demo.enabled is true, but celery.app is mysite",
        ),
        ({"web": {"command": "gunicorn mysite.wsgi"}}, "command"),
        ({"web": {"probes": {"liveness": "livez"}}}, "liveness"),
    ],
)  # fmt: skip
def test_refused(values: dict[str, Any], reason: str, helm: str) -> None:
    with pytest.raises(Refused) as caught:
        render(values, version=helm)
    assert reason in str(caught.value)
