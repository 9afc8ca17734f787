"""What an app brings by having a module of a certain name: routes, schedules, figures, demo data, a smoke test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def parts(name: str, apps: Iterable[str]) -> Iterator[ModuleType]:
    """The module ``name`` of each of these apps that has one, in their order."""
    return (import_module(f"{app}.{name}") for app in apps if find_spec(f"{app}.{name}"))
