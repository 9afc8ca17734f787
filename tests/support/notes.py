"""Effects noted in a file outside of everything under test: one appended line an effect. Standard library only."""

import os
from pathlib import Path


def note(path: str, line: str) -> None:
    """Append a line; whole, whoever else appends."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def noted(path: str | Path) -> list[str]:
    """The lines noted so far."""
    return Path(path).read_text().splitlines() if Path(path).exists() else []
