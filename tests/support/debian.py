"""Programs of Debian's for the tests, unpacked into .tools/debian/ without root by ``python -m tests.support.debian``.

A system's own will do as well. Where there is neither apt-get nor that, the tests that want one are skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from app.local.servers import PROJECT

HOME = PROJECT / ".tools" / "debian"
PROGRAMS = {"pgbouncer": "usr/sbin/pgbouncer", "prometheus": "usr/bin/promtool"}
"""By package: a program of it."""
# What they are linked with, and a small system lacks; names differ by release (libcares2, libevent-2.1-7t64).
LIBRARIES = re.compile(r"^Inst (lib(?:c-?ares|event|pam0|ssl|systemd)\S*)", re.MULTILINE)


def main() -> None:
    """Fetch and unpack what is not there. Says why when it cannot be, which is no error."""
    if not shutil.which("apt-get"):
        return
    HOME.parent.mkdir(exist_ok=True)
    for package, program in PROGRAMS.items():
        if (HOME / program).exists():
            continue
        try:
            install(package)
        except (subprocess.CalledProcessError, OSError) as error:
            told = getattr(error, "stderr", "") or str(error)
            print(f"no {package}, its tests will be skipped: {told.strip()}", file=sys.stderr)


def install(package: str) -> None:
    with tempfile.TemporaryDirectory(dir=HOME.parent) as temporary:
        folder = Path(temporary)
        try:
            fetch(package, folder)
        except subprocess.CalledProcessError:
            # A fresh machine has no lists of packages; only root may get them.
            run("apt-get", "-qq", "update")
            fetch(package, folder)
        for file in folder.glob("*.deb"):
            run("dpkg-deb", "-x", str(file), str(folder / "root"))
        shutil.copytree(folder / "root", HOME, symlinks=True, dirs_exist_ok=True)


def fetch(package: str, folder: Path) -> None:
    simulated = run("apt-get", "-s", "--no-install-recommends", "install", package)
    wanted = [package, *LIBRARIES.findall(simulated)]
    run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *wanted, at=folder)


def run(*command: str, at: Path = PROJECT) -> str:
    return subprocess.run(command, cwd=at, capture_output=True, text=True, check=True).stdout


def binary(program: str) -> Path:
    """The program, from here or the system's own. Skips the test where there is none."""
    for there in (HOME / program, Path("/") / program):
        if there.exists():
            return there
    pytest.skip(f"no {Path(program).name}: `make test` brings it where there is apt-get")


def libraries() -> dict[str, str]:
    """The environment of a program that is linked with what was unpacked."""
    folders = sorted({str(path.parent) for path in HOME.glob("usr/lib/*/lib*.so*")})
    return {"LD_LIBRARY_PATH": os.pathsep.join(folders)} if folders else {}


if __name__ == "__main__":
    main()
