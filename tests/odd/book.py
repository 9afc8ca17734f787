"""What the caller notes of its calls, outside of everything under test; the judge reads it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tests.support.notes import note, noted

REFUSED = ("ValueError", "TypeError", "EncodeError", "ImproperlyConfigured")
"""The classes by which a call that cannot work is refused, with their subclasses."""


@dataclasses.dataclass
class Case:
    """One odd call as it was drawn."""

    number: int
    kind: str
    drawn: Any
    """Plain JSON; what it means is the kind's."""
    mode: str
    """"outside" of a transaction, "inside" of one, or "on commit" of one."""
    queue: str

    @property
    def call(self) -> str:
        """By which its effects are known."""
        return f"{self.number}-{self.kind}"

    def __str__(self) -> str:
        drawn = ascii(self.drawn)
        return f"case {self.number}, {self.kind}, {self.mode}, queue {self.queue}: {drawn[:400]}"


@dataclasses.dataclass
class Record:
    """What became of it at the call."""

    number: int
    outcome: str
    """"accepted", "refused" or, where the caller's transaction was lost, "broke"."""
    error: list[str] = dataclasses.field(default_factory=list)
    """The names of its exception's classes, the nearest first."""
    text: str = ""
    ids: list[str] = dataclasses.field(default_factory=list)
    """Celery's, of what was published in the call."""
    seconds: float = 0.0
    """That the call took."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What the kind itself found wrong at the call."""
    before: int = 0
    """Of ``ids``, those published before it was refused."""


@dataclasses.dataclass
class Plain:
    """A plain call, once it is acknowledged."""

    call: str
    part: str
    queue: str
    beside: bool
    """Whether odd calls were made at that time."""
    at: float
    id: str
    """Celery's."""


class Book:
    """The files of a run."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def write(self, name: str, entry: Any) -> None:
        note(f"{self.folder}/{name}", json.dumps(dataclasses.asdict(entry)))

    def cases(self) -> list[Case]:
        return [Case(**json.loads(line)) for line in noted(self.folder / "cases")]

    def records(self) -> list[Record]:
        return [Record(**json.loads(line)) for line in noted(self.folder / "records")]

    def plain(self) -> list[Plain]:
        return [Plain(**json.loads(line)) for line in noted(self.folder / "plain")]
