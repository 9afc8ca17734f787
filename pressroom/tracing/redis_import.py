"""Imports redis-py. If OpenTelemetry is installed, redis-py loads its metrics, 3 MB a process, whether used or not.

So they are hidden from that import, unless traces are on or somebody has loaded them before.
"""

from __future__ import annotations

import sys
from typing import Any

from pressroom import tracing

_modules: dict[str, Any] = sys.modules
_hidden = [
    name
    for name in ("opentelemetry.metrics", "opentelemetry.sdk.metrics")
    if not tracing.is_wanted() and "redis" not in _modules and name not in _modules
]
for _name in _hidden:
    _modules[_name] = None
try:
    import redis.client  # noqa: F401 - see the module's docstring
finally:
    for _name in _hidden:
        _modules.pop(_name, None)
