"""Clusters with IPv6, and with both families."""

from __future__ import annotations

from typing import Any

import pytest

from app.environment import Environment
from tests.chart.tools import one, pods, render

env = Environment()


def database(host: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the settings make of the ConfigMap's URL."""
    external = {"host": host, "existingSecret": "db", "user": "press room", "name": "press"}
    manifests = render({"postgres": {"enabled": False}, "externalDatabase": external})
    monkeypatch.setenv("DATABASE_URL", one(manifests, "ConfigMap", "press-pressroom")["data"]["DATABASE_URL"])
    return dict(env.db_url_config(env.str("DATABASE_URL")))


@pytest.mark.parametrize("host", ["2001:db8::1", "[2001:db8::1]", "::1"])
def test_an_ipv6_address_of_the_database(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = database(host, monkeypatch)
    assert (found["HOST"].strip("[]"), found["PORT"]) == (host.strip("[]"), 5432)
    assert (found["USER"], found["NAME"]) == ("press room", "press")


@pytest.mark.parametrize("host", ["db.example.com", "10.0.0.1"])
def test_another_host_has_no_brackets(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert database(host, monkeypatch)["HOST"] == host


def test_no_process_listens_on_ipv4_alone() -> None:
    """gunicorn's address is in gunicorn.conf.py, and the other servers choose theirs as it does."""
    for name, pod in pods(render()).items():
        words = [*pod["containers"][0].get("command", []), *pod["containers"][0].get("args", [])]
        assert not [word for word in words if "0.0.0.0" in word or word == "--bind"], name  # noqa: S104 - it is refused


def test_every_service_takes_the_families() -> None:
    manifests = render({"global": {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}})
    services = {made["metadata"]["name"]: made["spec"] for made in manifests if made["kind"] == "Service"}
    assert set(services) == {"press-pressroom-web", "press-pressroom-exporter", "press-redis", "press-postgres"}
    for name, spec in services.items():
        assert (spec["ipFamilyPolicy"], spec["ipFamilies"]) == ("PreferDualStack", ["IPv6", "IPv4"]), name
    for manifest in render():
        assert manifest["kind"] != "Service" or "ipFamilyPolicy" not in manifest["spec"]
