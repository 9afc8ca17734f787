"""The commands of docs/operations.md, one after the other, on the release under test."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chart.tools import ROOT
from tests.e2e.cluster.kube import HELM, Failed, Namespace, has_keda, run, until

PAGE = ROOT / "docs" / "operations.md"
INSTEAD = {
    r"docker build .*": "",  # to a registry
    r"kubectl drain NODE .*": "",  # it is everybody's; `make chaos` does it
    r"exec -it (.*)createsuperuser": r"exec \1createsuperuser --no-input --username docs --email docs@example.com",
    r"^helm ": f"{HELM} ",
    r"pressroom -n press ": "pressroom -n press --timeout 10m ",
}
"""For what is the reader's own, or needs a person."""
LATER = (
    "from app.accounts.models import User; from app.blog.models import Post\n"
    "Post.objects.create(author=User.objects.first(), title='Later', slug='later')"
)
"""What a restore takes back."""


def blocks() -> Iterator[list[str]]:
    """The commands of each console."""
    for text in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        yield re.findall(r"^\$ (.+)$", text.replace("\\\n", " "), re.MULTILINE)


def here(command: str, namespace: Namespace, folder: Path, tag: str) -> str:
    """As it is for this release; empty where it is not for this cluster."""
    if ("scaledobject" in command or "provider=keda" in command) and not has_keda():
        return ""
    for pattern, ours in INSTEAD.items():
        command = re.sub(pattern, ours, command)
    command = command.replace("image.tag=0.2.0", f"image.tag={tag}").replace("press.dump", f"{folder}/press.dump")
    return re.sub(r"-n press\b", f"-n {namespace.name}", command)


def posts(namespace: Namespace) -> int:
    return int(namespace.shell("from app.blog.models import Post; print(Post.objects.count())").split()[-1])


def operations(namespace: Namespace, tag: str, found: list[str]) -> None:
    """Do all that the page says; ``tag`` is another release's. Raises Failed."""
    count, before = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for block in blocks():
            for command in filter(None, (here(one, namespace, Path(folder), tag) for one in block)):
                begun = time.monotonic()
                run("bash", "-euo", "pipefail", "-c", command)
                count += 1
                print(f"  {time.monotonic() - begun:6.1f} s  $ {command[:90]}", file=sys.stderr)
            begun = time.monotonic()
            until(namespace.settled, f"all are ready after: {block[-1]}", timeout=900.0)
            print(f"  {time.monotonic() - begun:6.1f} s  until all are ready", file=sys.stderr)
            text = "\n".join(block)
            if "pg_dump" in text:
                before = posts(namespace)
                namespace.shell(LATER)
            if "pg_restore" in text and posts(namespace) != before:
                raise Failed(f"{before} posts before the backup, {posts(namespace)} after the restore")
    namespace.helm("test", "press", "--timeout", "5m")
    found.append(f"{count} commands; a backup restored, {before} posts; then helm test")
