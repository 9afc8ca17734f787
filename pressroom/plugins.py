"""Modules of certain names by which an app adds to the site: routes, schedules, figures, demo data, a smoke test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def parts(name: str, apps: Iterable[str]) -> Iterator[ModuleType]:
    """Return the module ``name`` of each app that has one, in the order of the apps."""
    return (import_module(f"{app}.{name}") for app in apps if find_spec(f"{app}.{name}"))
