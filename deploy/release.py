"""Make what a release publishes.

``python deploy/release.py files IMAGE FOLDER`` writes the library's wheel and sdist, the chart with ``IMAGE`` as its
default, and ``SHA256SUMS`` of everything in the folder; ``HELM`` in the environment names helm. ``python
deploy/release.py notes`` prints the changelog's section of this version.

Uses only the standard library.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "pressroom"
SUMS = "SHA256SUMS"
OWN_IMAGE = "  repository: pressroom\n"
"""The chart's default, in its values: an image that its user builds."""


def version() -> str:
    """The version of the project."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def notes() -> str:
    """What the changelog says of this version. Raises LookupError if it says nothing."""
    text = (ROOT / "CHANGELOG.md").read_text()
    found = re.search(rf"^## \[{re.escape(version())}\][^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        raise LookupError(f"CHANGELOG.md has no section for {version()}")
    return found[1].strip() + "\n"


def build_library(folder: Path) -> None:
    """Write the wheel and the sdist of ``pressroom/``, by the hatchling of uv.lock."""
    uv = ROOT / ".tools" / "bin" / "uv"
    build = ["build", "--package=pressroom", "--no-build-isolation", "--quiet", f"--out-dir={folder}"]
    subprocess.run([uv, *build], cwd=ROOT, check=True)
    (folder / ".gitignore").unlink(missing_ok=True)  # uv writes one


def package_chart(image: str, folder: Path, helm: str) -> None:
    """Write ``pressroom-chart-VERSION.tgz``. The sdist has the name that helm would give it, but for the ending."""
    with tempfile.TemporaryDirectory() as temporary:
        chart = Path(temporary) / "pressroom"
        shutil.copytree(CHART, chart)
        values = (chart / "values.yaml").read_text()
        if values.count(OWN_IMAGE) != 1:
            raise LookupError(f"values.yaml does not have {OWN_IMAGE.strip()!r} once")
        (chart / "values.yaml").write_text(values.replace(OWN_IMAGE, f"  repository: {image}\n"))
        subprocess.run([helm, "package", chart, f"--destination={temporary}"], check=True, stdout=subprocess.DEVNULL)
        shutil.move(Path(temporary) / f"pressroom-{version()}.tgz", folder / f"pressroom-chart-{version()}.tgz")


def write_sums(folder: Path) -> None:
    """Write the checksums of the folder's files as ``sha256sum --check`` reads them."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / SUMS).write_text("".join(lines))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Make what a release publishes.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("notes", help="print the changelog's section of this version")
    files = commands.add_parser("files", help="write the files, and SHA256SUMS of everything in the folder")
    files.add_argument("image", help="the image's repository, for example ghcr.io/owner/pressroom")
    files.add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.command == "notes":
        sys.stdout.write(notes())
        return
    if not re.fullmatch(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+", given.image):
        parser.error(f"{given.image!r} is not the repository of an image, such as ghcr.io/owner/pressroom")
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    build_library(folder)
    package_chart(given.image, folder, os.environ.get("HELM", "helm"))
    write_sums(folder)


if __name__ == "__main__":
    main()
