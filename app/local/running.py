"""The `make up` that runs here, for what is started beside it: its settings, so that nobody has to export them.

`make up` writes them to ``var/up.env``. They hold for as long as it holds its lock; what is left of one that was killed
counts for nothing. Standard library only: the settings themselves begin with this.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
LOCK, SETTINGS = "up.lock", "up.env"
DECIDED_BY = ("LOCAL", "DATABASE_URL", "SECRET_KEY")
"""Where any of these is set, the environment says itself what is to be used."""


def settings_names() -> set[str]:
    """The environment variables that ``app/settings.py`` reads."""
    return set(re.findall(r'\benv(?:\.\w+)?\(\s*"(\w+)"', (PROJECT / "app" / "settings.py").read_text()))


def var_folder(environ: Mapping[str, str]) -> Path:
    """Where local mode writes."""
    return Path(environ.get("VAR_DIR") or PROJECT / "var").resolve()


def is_held(var: Path) -> bool:
    """Whether a `make up` holds the lock of the folder."""
    try:
        with (var / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def write(var: Path, env: Mapping[str, str]) -> None:
    """Leave the settings of ``env`` for those beside us; they hold passwords, so for us alone."""
    path = var / SETTINGS
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    names = settings_names() | {"PGPASSWORD"}
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({name: value for name, value in env.items() if name in names}, file, indent=2)
    unfinished.rename(path)


def forget(var: Path) -> None:
    (var / SETTINGS).unlink(missing_ok=True)


def read(var: Path) -> dict[str, str]:
    """The settings of the `make up` that runs with this folder; none where none does, or it is not so far yet."""
    if not is_held(var):
        return {}
    try:
        found: dict[str, str] = json.loads((var / SETTINGS).read_text())
    except (OSError, ValueError):  # not so far yet, or another user's
        return {}
    return found


def join(environ: MutableMapping[str, str] = os.environ) -> None:
    """Complete an environment that names no services by the settings of the `make up` that runs here, and say so."""
    if any(environ.get(name) for name in DECIDED_BY):
        return
    found = read(var_folder(environ))
    for name, value in found.items():
        environ.setdefault(name, value)
    if found and sys.stderr.isatty():
        print("with the settings of the `make up` that runs here", file=sys.stderr)
