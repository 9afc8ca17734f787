"""Fixtures for tests with real workers and a real relay."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Stack, stack_in


@pytest.fixture
def stack(tmp_path: Path, transactional_db: None, redis_server: Any) -> Iterator[Stack]:
    """Nothing runs as yet: a test starts what it needs."""
    with stack_in(tmp_path) as stack:
        yield stack


@pytest.fixture
def effects(tmp_path: Path) -> str:
    """The file in which the probes note their effects."""
    return str(tmp_path / "effects")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that does not exist: `probe.hold` ends once it does."""
    return tmp_path / "gate"
