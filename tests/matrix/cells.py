"""The combinations of versions that the tests run on, and the tests that run on each."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One combination: the first numbers of each version. ``broker`` begins with ``Redis`` or ``Valkey``."""

    name: str
    python: str
    django: str
    celery: str
    postgres: str
    broker: str

    @property
    def packages(self) -> dict[str, str]:
        # Celery accepts a later kombu than its own. A project that holds Celery back has the kombu of that time.
        return {"django": self.django, "celery": self.celery, "kombu": self.celery}

    def wanted(self) -> dict[str, str]:
        return {
            "Python": self.python, "Django": self.django, "Celery": self.celery, "Postgres": self.postgres,
            "broker": self.broker,
        }  # fmt: skip


CELLS = (
    Cell("oldest", "3.11", "5.2", "5.7", "15", "Redis 7"),
    Cell("lock", "3.11", "5.2", "5.7", "18", "Valkey 9"),
    Cell("image", "3.13", "5.2", "5.7", "17", "Redis 8"),
    Cell("python", "3.13", "5.2", "5.7", "18", "Valkey 9"),
    Cell("django", "3.13", "6.0", "5.7", "18", "Valkey 9"),
    Cell("celery", "3.13", "6.0", "5.6", "16", "Valkey 9"),
    Cell("newest", "3.14", "6.0", "5.7", "18", "Redis 8"),
)
"""`image` is what the Dockerfile and the chart's Postgres and Redis are."""

SUBSET = (
    "tests/unit/pressroom/beat",
    "tests/unit/pressroom/test_async_calls.py",
    "tests/unit/pressroom/test_django_tasks.py",
    "tests/unit/pressroom/test_end_hooks.py",
    "tests/unit/pressroom/test_handler_errors.py",
    "tests/unit/pressroom/test_result_backend.py",
    "tests/unit/pressroom/test_routing.py",
    "tests/unit/pressroom/test_sql_functions.py",
    "tests/unit/pressroom/test_store_calls.py",
    "tests/unit/pressroom/test_unique_calls.py",
    "tests/contract/test_wheel.py",
    "tests/canvas",
    "tests/site/test_admin.py",
    "tests/e2e/test_adopt.py",
    "tests/reliability/test_chords.py",
    "tests/reliability/test_django_tasks.py",
    "tests/reliability/test_pools.py",
)
"""What touches Django, Celery, Postgres and Redis from inside: the library where it hangs on to them, stock Celery
beside it, the admin, the wheel in other projects, and workers of each pool that are killed."""


def matches(wanted: str, found: str) -> bool:
    """Whether a version is one of the wanted: ``Redis 7`` of ``Redis 7.0.15``, but ``3.1`` not of ``3.11``."""
    return re.match(rf"{re.escape(wanted)}(?![\w])", found) is not None


def requirements(exported: str, packages: dict[str, str]) -> str:
    """Locked requirements, with the newest patch of each of the packages whose locked version is another one.

    Raises LookupError if one of them is not locked.
    """
    for name, wanted in packages.items():
        found = re.search(rf"^{name}==(\S+)", exported, re.MULTILINE)
        if found is None:
            raise LookupError(f"{name} is not locked")
        if not matches(wanted, found[1]):
            exported = exported.replace(found[0], f"{name}=={wanted}.*")
    return exported
