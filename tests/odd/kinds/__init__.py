"""The kinds of odd calls, a module for each family. To add one: subclass `Kind` in a module here and decorate it.

A kind says what is drawn, how it is called and how that may end; the rest is the harness's.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Any

from hypothesis import strategies as st

from tests.odd.book import Case, Record


@dataclasses.dataclass
class Run:
    """A row of the ledger, at the end."""

    run_id: str
    celery_id: str
    name: str
    queue: str
    status: str
    error_type: str
    error: str
    attempt: int
    losses: int
    waits_for_later: bool
    is_new: bool
    """Called a moment ago, as plain schedules are all the time."""

    def __str__(self) -> str:
        return (
            f"run {self.run_id} {self.name} {self.status}, attempt {self.attempt}, losses {self.losses}, "
            f"{self.error_type}: {self.error[:300]!a}"
        )


@dataclasses.dataclass
class Expected:
    """How the runs of an accepted call may end."""

    ends: tuple[str, ...] = ("succeeded",)
    error: str = ""
    """What must be found in "type: text" of a dead one's error, as a regular expression."""
    refused: bool | None = None
    """Whether it must (True) or must not (False) be refused at the call."""
    effect: bool = False
    """Whether its effect is there once where its only run succeeded, and not at all where that ended otherwise."""
    later: bool = False
    """Whether it may still wait for its time."""


class Kind:
    """A kind of odd calls."""

    name: str
    weight: int = 10
    """How many of them among all."""
    strategy: st.SearchStrategy[Any]
    """Of what is drawn: plain JSON."""
    also_refused: tuple[str, ...] = ()
    """Classes of errors that refuse a call of this kind besides the usual ones."""

    def call(self, case: Case, record: Record) -> None:
        """Make it, in the caller. What it raises has refused the call."""
        raise NotImplementedError

    def expected(self, case: Case) -> Expected:
        """How it may end."""
        return Expected()

    def found(self, case: Case, record: Record, runs: list[Run]) -> list[str]:
        """What else is wrong with it."""
        return []


KINDS: dict[str, Kind] = {}


def kind(cls: type[Kind]) -> type[Kind]:
    KINDS[cls.name] = cls()
    return cls


def load() -> dict[str, Kind]:
    """All kinds, by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return KINDS
