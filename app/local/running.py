"""The settings of the running `make up`, for processes that are started beside it, so that nobody has to export them.

`make up` writes the settings to ``var/up.env``. They are valid as long as it holds its lock, so the file of a killed
one is ignored. This module uses only the standard library, because the settings import it first.
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
"""If one of these variables is set, the environment itself decides which servers to use."""


def settings_names() -> set[str]:
    """Return the names of the environment variables that ``app/settings.py`` reads."""
    return set(re.findall(r'\benv(?:\.\w+)?\(\s*"(\w+)"', (PROJECT / "app" / "settings.py").read_text()))


def var_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder that local mode writes to."""
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
    """Write the settings from ``env`` for other processes. Only the owner may read the file: it holds passwords."""
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
    """Return the settings of the `make up` that runs with this folder, or {} if none runs or it is not ready yet."""
    if not is_held(var):
        return {}
    try:
        found: dict[str, str] = json.loads((var / SETTINGS).read_text())
    except (OSError, ValueError):  # not written yet, or owned by another user
        return {}
    return found


def join(environ: MutableMapping[str, str] = os.environ) -> None:
    """Add the settings of the running `make up` to an environment that names no servers, and print a notice."""
    if any(environ.get(name) for name in DECIDED_BY):
        return
    found = read(var_folder(environ))
    for name, value in found.items():
        environ.setdefault(name, value)
    if found and sys.stderr.isatty():
        print("using the settings of the `make up` that runs here", file=sys.stderr)
