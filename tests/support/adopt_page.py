"""docs/adopt.md as its reader carries it out: what it says to write, in a project of its reader's own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from app.local.servers import PROJECT

PAGE = PROJECT / "docs" / "adopt.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./]+)(, at its end)?\n")


def blocks(*, after: str | None = None, until: str | None = None) -> list[tuple[str, str]]:
    """Kind and text of each block between two headings of the page."""
    text = PAGE.read_text()
    if after is not None:
        text = text.partition(f"\n## {after}\n")[2]
    if until is not None:
        text = text.partition(f"\n## {until}\n")[0]
    found = BLOCK.findall(text)
    assert found, (after, until)
    return found


def write(folder: Path, block: str) -> None:
    """Write the file that the block's first line names, or add to it."""
    named = FILE.match(block)
    assert named, block
    path, content = folder / named[1], block[named.end() :]
    if named[2]:
        content = f"import os\n{path.read_text()}\n{content}"
    path.write_text(content)


def build_wheel(folder: Path) -> Path:
    """Build the library's wheel into the folder. Returns its path."""
    uv = [PROJECT / ".tools" / "bin" / "uv", "build", "--package=pressroom", "--wheel", "--no-build-isolation"]
    subprocess.run([*uv, "--quiet", f"--out-dir={folder}"], cwd=PROJECT, check=True, timeout=300)
    [wheel] = folder.glob("*.whl")
    return wheel
