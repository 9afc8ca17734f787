"""docs/adopt.md, "On Kubernetes": a new project with the library's wheel, on its own image, by the chart."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import yaml

from tests.chart.tools import CHART
from tests.e2e.cluster.kube import Failed, Namespace, load_image, run
from tests.support.adopt_page import blocks, build_wheel, write

IMAGE = "mysite:e2e"


def project(folder: Path) -> None:
    """Write the project of the page, as far as it needs no cluster, with the wheel beside it."""
    run(sys.executable, "-m", "django", "startproject", "mysite", str(folder))
    for kind, block in blocks(until="Settings"):
        if kind in ("python", "dockerfile", "yaml"):
            write(folder, block)
    build_wheel(folder / "dist")


def adopted(found: list[str]) -> None:
    """From the page to a green `helm test`, with web and without."""
    namespace = Namespace("pressroom-e2e-adopted")
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "project"
            folder.mkdir()
            started = time.monotonic()
            project(folder)
            run("docker", "build", "--network", "host", "-t", IMAGE, str(folder), timeout=1800.0)
            found.append(f"project and image {time.monotonic() - started:.0f} s")
            load_image(IMAGE)
            queues = folder / "queues.yaml"
            queues.write_text(run("docker", "run", "--rm", IMAGE, "python", "manage.py", "queues"))
            values = yaml.safe_load((folder / "values.yaml").read_text())
            values["image"] = dict(zip(("repository", "tag"), IMAGE.split(":"), strict=True))
            (folder / "values.yaml").write_text(yaml.safe_dump(values))
            files = ["-f", str(queues), "-f", str(folder / "values.yaml")]
            for how in ([], ["--set=web.enabled=false"]):
                started = time.monotonic()
                command = ["upgrade", "--install", "mysite", str(CHART), "--wait", "--timeout", "5m", *files, *how]
                namespace.helm(*command)
                found.append(f"{' '.join(how) or 'install'} to ready {time.monotonic() - started:.0f} s")
                started = time.monotonic()
                told = namespace.helm("test", "mysite", "--timeout", "5m", "--logs")
                found.append(f"helm test {time.monotonic() - started:.0f} s")
                found += [line for line in told.splitlines() if line.endswith("s: ok")]
    except Failed as error:
        raise Failed(f"{error}\n{namespace.state()}") from error
    finally:
        namespace.delete()
