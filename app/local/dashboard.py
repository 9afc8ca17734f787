"""The Grafana dashboard, built from a table of panels. ``make update`` writes it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Panel(NamedTuple):
    """A graph of one or more expressions, each with its legend. Units are Grafana's."""

    title: str
    unit: str
    expressions: tuple[tuple[str, str], ...]


def _by(labels: str, metric: str, how: str = "max") -> str:
    return f'{how} by ({labels}) ({metric}{{namespace=~"$namespace"}})'


def _rate(labels: str, metric: str) -> str:
    return f'sum by ({labels}) (rate({metric}{{namespace=~"$namespace"}}[$__rate_interval]))'


def _quantile(quantile: float, label: str, metric: str) -> str:
    return f"histogram_quantile({quantile}, {_rate(f'le, {label}', f'{metric}_bucket')})"


QUEUE = "{{queue_name}}"
ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Queues",
        (
            Panel("Due and not started", "short", ((_by("queue_name", "celery_queue_length"), QUEUE),)),
            Panel(
                "Oldest due task",
                "s",
                (
                    (_by("queue_name", "pressroom_queue_oldest_due_age_seconds"), QUEUE),
                    (_by("queue_name", "pressroom_queue_max_wait_seconds"), f"{QUEUE} max_wait"),
                ),
            ),
            Panel(
                "Running tasks and slots",
                "short",
                (
                    (_by("queue_name", "pressroom_queue_running"), QUEUE),
                    (_by("queue_name", "celery_active_process_count"), f"{QUEUE} slots"),
                ),
            ),
            Panel("Live workers", "short", ((_by("queue_name", "celery_active_worker_count"), QUEUE),)),
            Panel("Dead letters", "short", ((_by("queue_name", "pressroom_queue_dead"), QUEUE),)),
            Panel(
                "Not to start now",
                "short",
                (
                    (_by("queue_name", "pressroom_queue_held_length"), f"{QUEUE} held by limits"),
                    (_by("queue_name", "pressroom_queue_paused_length"), f"{QUEUE} paused"),
                    (_by("queue_name", "pressroom_queue_later_length"), f"{QUEUE} later"),
                ),
            ),
        ),
    ),
    (
        "Tasks",
        (
            Panel("Succeeded", "ops", ((_rate("name", "celery_task_succeeded_total"), "{{name}}"),)),
            Panel("Failed", "ops", ((_rate("name, exception", "celery_task_failed_total"), "{{name}} {{exception}}"),)),
            Panel(
                "Retried and lost",
                "ops",
                (
                    (_rate("name", "celery_task_retried_total"), "{{name}} retried"),
                    (_rate("name", "pressroom_task_lost_total"), "{{name}} lost its worker"),
                ),
            ),
            Panel(
                "Wait, p50 and p95",
                "s",
                tuple(
                    (_quantile(q, "queue_name", "celery_task_queue_wait_time"), f"{QUEUE} p{q * 100:.0f}")
                    for q in (0.5, 0.95)
                ),
            ),
            Panel("Run time, p95", "s", ((_quantile(0.95, "name", "celery_task_runtime"), "{{name}}"),)),
        ),
    ),
    (
        "Services",
        (
            Panel(
                "Time since the last round",
                "s",
                (
                    (_by("process", "pressroom_tick_age_seconds"), "{{process}}"),
                    (_by("namespace", "pressroom_relay_lag_seconds"), "relay's lag"),
                    (_by("namespace", "pressroom_schedule_lateness_seconds"), "latest schedule's lateness"),
                ),
            ),
            Panel("Messages in Redis", "short", ((_by("queue_name", "pressroom_queue_messages"), QUEUE),)),
            Panel("Redis memory", "bytes", ((_by("namespace", "pressroom_redis_memory_used_bytes"), "used"),)),
            Panel(
                "Postgres connections",
                "short",
                (
                    (_by("namespace", "pressroom_postgres_connections"), "in use"),
                    (_by("namespace", "pressroom_postgres_max_connections"), "maximum"),
                ),
            ),
        ),
    ),
    (
        "Web",
        (
            Panel("Requests", "reqps", ((_rate("route", "pressroom_http_requests_total"), "{{route}}"),)),
            Panel("Requests by status", "reqps", ((_rate("status", "pressroom_http_requests_total"), "{{status}}"),)),
            Panel(
                "Response time, p95",
                "s",
                ((_quantile(0.95, "route", "pressroom_http_request_duration_seconds"), "{{route}}"),),
            ),
            Panel(
                "Requests in flight",
                "short",
                ((_by("namespace", "pressroom_http_requests_in_flight", "sum"), "requests"),),
            ),
        ),
    ),
)
SOURCE = {"type": "prometheus", "uid": "$datasource"}
WIDTH, HEIGHT, COLUMNS = 6, 7, 24


def expressions() -> list[str]:
    """Return all expressions, with Grafana's variables in them."""
    return [expression for _, panels in ROWS for panel in panels for expression, _ in panel.expressions]


def dashboard_json() -> str:
    """Return the dashboard in Grafana's import format."""
    variables = [
        {"name": "datasource", "type": "datasource", "query": "prometheus"},
        {
            "name": "namespace", "type": "query", "datasource": SOURCE, "includeAll": True, "allValue": ".*",
            "query": "label_values(pressroom_postgres_up, namespace)", "refresh": 2,
            "current": {"text": "All", "value": "$__all"},
        },
    ]  # fmt: skip
    whole = {
        "title": "Pressroom", "uid": "pressroom", "schemaVersion": 39, "editable": True, "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"}, "templating": {"list": variables}, "panels": _panels(),
    }  # fmt: skip
    return json.dumps(whole, indent=2) + "\n"


def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    y = 0

    def add(kind: str, title: str, x: int, w: int, h: int, **more: Any) -> None:
        position = {"x": x, "y": y, "w": w, "h": h}
        panels.append({"id": len(panels) + 1, "type": kind, "title": title, "gridPos": position, **more})

    for title, row in ROWS:
        add("row", title, 0, COLUMNS, 1)
        y += 1
        for number, panel in enumerate(row):
            if number and number * WIDTH % COLUMNS == 0:
                y += HEIGHT
            targets = [
                {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend, "datasource": SOURCE}
                for index, (expression, legend) in enumerate(panel.expressions)
            ]
            options = {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []}
            add("timeseries", panel.title, number * WIDTH % COLUMNS, WIDTH, HEIGHT,
                datasource=SOURCE, targets=targets, fieldConfig=options)  # fmt: skip
        y += HEIGHT
    return panels
