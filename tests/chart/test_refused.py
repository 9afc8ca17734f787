"""What cannot work is not installed, and the reason is said."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.tools import Refused, render


@pytest.mark.parametrize("helm", ["HELM", "HELM3"])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        # Misspelt, or of another type.
        ({"wbe": {}}, "wbe"),
        ({"web": {"replica": 2}}, "replica"),
        ({"workers": {"email": {"replicas": 2}}}, "email"),
        ({"workers": {"emails": {"replica": 2}}}, "replica"),
        ({"web": {"replicas": "two"}}, "replicas"),
        ({"autoscaling": {"provider": "both"}}, "provider"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"externalDatabase": {"sslmode": "full"}}, "sslmode"),
        ({"site": {"url": "press.example.com"}}, "url"),
        ({"tracing": {"endpoint": "collector:4318"}}, "endpoint"),
        ({"redis": {"enabled": True, "maxmemori": "1gb"}}, "maxmemori"),
        ({"postgres": {"enabled": True, "maxConnections": "many"}}, "maxConnections"),
        ({"extraEnv": {"LOG-LEVEL": "INFO"}}, "LOG-LEVEL"),
        ({"development": {"enabled": "false"}}, "development/enabled"),
        # Impossible together.
        ({"ledger": {"heartbeat": 5, "silence": 10}}, "not more than two heartbeats"),
        ({"workers": {"default": {"mustFinish": True, "terminationGracePeriodSeconds": 200}}}, "below 310"),
        ({"web": {"replicas": 30}}, "database connections"),
        ({"autoscaling": {"provider": "keda"}, "worker": {"autoscaling": {"maxReplicas": 40}}}, "database connections"),
        ({"postgres": {"maxConnections": 40}}, "postgres.maxConnections"),
        ({"autoscaling": {"provider": "keda"}, "workers": {"emails": {"replicas": 2}}}, "two would scale"),
        (
            {"autoscaling": {"provider": "hpa"}, "worker": {"autoscaling": {"minReplicas": 9, "maxReplicas": 2}}},
            "above maxReplicas",
        ),
        ({"web": {"autoscaling": {"enabled": True, "minReplicas": 9}}}, "above maxReplicas"),
        ({"externalRedis": {"url": "redis://redis.example.com"}}, "Two Redis"),
        ({"redis": {"enabled": False}}, "No Redis"),
        ({"redis": {"enabled": False}, "externalRedis": {"url": "redis://r/1"}}, "externalRedis"),
        ({"redis": {"enabled": False}, "externalRedis": {"url": "redis://r?db=1"}}, "externalRedis"),
        ({"redis": {"enabled": False}, "externalRedis": {"url": "redis://r#1"}}, "externalRedis"),
        (
            {"redis": {"enabled": False}, "externalRedis": {"url": "redis://r.example.com", "caSecret": "ca"}},
            "nothing would be encrypted",
        ),
        ({"externalDatabase": {"host": "db.example.com"}}, "Two databases"),
        ({"postgres": {"enabled": False}}, "No database"),
        ({"postgres": {"enabled": False}, "externalDatabase": {"host": "db"}}, "existingSecret is empty"),
        (
            {
                "postgres": {"enabled": False},
                "externalDatabase": {"host": "db", "existingSecret": "db", "sslmode": "verify-full"},
            },
            "no caSecret",
        ),
        (
            {
                "postgres": {"enabled": False},
                "externalDatabase": {"host": "db", "existingSecret": "db", "maxConnections": 20},
            },
            "externalDatabase.maxConnections",
        ),
        ({"ingress": {"enabled": True}}, "hosts is empty"),
        ({"httpRoute": {"enabled": True, "hosts": ["press.example.com"]}}, "parentRefs is empty"),
        ({"site": {"url": "http://localhost:8000"}}, "the reader's own machine"),
    ],
)
def test_refused(values: dict[str, Any], reason: str, helm: str) -> None:
    with pytest.raises(Refused) as caught:
        render(values, version=helm)
    assert reason in str(caught.value)
