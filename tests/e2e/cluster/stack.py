"""The image under test, and a release of it by the chart."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from tests.chart.tools import CHART
from tests.e2e.cluster.kube import Namespace, load_image, run, succeeds

IMAGE = "pressroom:e2e"
INSTALL = ["--set=extraEnv.EMAIL_URL=consolemail://", "--set=extraEnv.THROTTLE_PUBLISH=1000000/hour"]


def build(variant: str, folder: Path) -> None:
    """The image, and one on top of it from a Dockerfile in ``folder``; the cluster gets both."""
    run("docker", "build", "--network", "host", "-t", IMAGE, ".", timeout=1800.0)
    run("docker", "build", "-t", variant, "--build-arg", f"BASE={IMAGE}", str(folder))
    # Such as are here need not be pulled.
    public = [image for image in ("redis:8", "postgres:17") if succeeds("docker", "image", "inspect", image)]
    load_image(IMAGE, variant, *public)


def install(namespace: Namespace, *arguments: str, image: str = IMAGE, timeout: str = "5m") -> float:
    """Install or upgrade the release ``press``, and wait. Returns the seconds it took."""
    repository, _, tag = image.partition(":")
    started = time.monotonic()
    namespace.helm(
        "upgrade", "--install", "press", str(CHART), "--wait", "--timeout", timeout, *INSTALL,
        f"--set=image.repository={repository},image.tag={tag}", *arguments,
    )  # fmt: skip
    return time.monotonic() - started


def token(namespace: Namespace, minutes: int = 15) -> str:
    """Of a new author, good for so long."""
    name = f"e2e-{secrets.token_hex(4)}"
    code = (
        "from datetime import timedelta; from app.accounts.models import User;"
        "from app.accounts.services import user_make_author; from app.accounts.sign_in.tokens import AccessToken;"
        f"user = User.objects.create_user('{name}', '{name}@example.com'); user_make_author(user);"
        "token = AccessToken.for_user(user);"
        f"token.set_exp(lifetime=timedelta(minutes={minutes})); print(token)"
    )
    return namespace.shell(code).split()[-1]
