"""The API under requests that nobody would write, by Schemathesis, signed in as each role, against real processes.

`make api-fuzz MINUTES=15` is the long form. No answer is a 500, and each is as the OpenAPI document says: its status,
its headers, its body.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from django.conf import settings

from app.accounts.models import User
from app.accounts.services import user_make_author
from app.accounts.sign_in.tokens import AccessToken
from pressroom.enqueue.ownership import owned_by
from tests.support.probes import tasks
from tests.support.processes import ROOT, Stack

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0.4"))
SEED = os.environ.get("FUZZ_SEED", "2026")
pytestmark = [pytest.mark.xdist_group("fuzz"), pytest.mark.timeout(MINUTES * 60 + 900)]
ROLES = ("stranger", "reader", "author", "superuser")
SETTINGS = (ROOT / "app" / "settings.py").read_text()
NEVER_THROTTLED = dict.fromkeys(re.findall(r'"((?:THROTTLE|LOCKOUT)_\w+)"', SETTINGS), "1000000/min")
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method", "allow_header_conformance", "missing_required_header",
    "use_after_free", "ignored_auth", "documented_headers",
)  # fmt: skip


@pytest.fixture(scope="module")
def site(shared_stack: Stack) -> Iterator[str]:
    """The address of a web process with all that works behind it."""
    stack = shared_stack
    stack.relay()
    stack.worker("-Q", "default,emails,reports", "-P", "threads", "-c", "2")
    command = [sys.executable, "-m", "gunicorn", "app.wsgi", "--bind", "127.0.0.1:0", "--worker-tmp-dir"]
    web = stack.start(
        [*command, str(stack.folder)], "Listening at", SECRET_KEY=settings.SECRET_KEY, EVENT_STREAM_LIFETIME="1",
        **NEVER_THROTTLED,
    )  # fmt: skip
    found = re.search(r"Listening at:? .*?(http://127\.0\.0\.1:\d+)", web.output())
    assert found, web.output()
    yield found[1]
    assert web.popen.poll() is None, web.output()
    assert "Traceback" not in web.output(), web.output()[-20_000:]


def sign_in(role: str) -> dict[str, str]:
    """The header of a user of that role, who has runs of his own; none for a stranger."""
    if role == "stranger":
        return {}
    make = User.objects.create_superuser if role == "superuser" else User.objects.create_user
    user = make(role, f"{role}@example.com", "a-long-passphrase-1")
    if role == "author":
        user_make_author(user)
    with owned_by(user):
        for countdown in (0, 86_400):
            tasks.effect.apply_async(["/dev/null", role], countdown=countdown)
    token = AccessToken.for_user(user)
    # One that lasts as long as the test.
    token.set_exp(lifetime=timedelta(days=1))
    return {"Authorization": f"Bearer {token}"}


def furnish(site: str, headers: dict[str, str]) -> None:
    """Something of each kind; what there is not, is not made."""
    for path, body in (
        ("posts", {"title": "A post", "body": "b"}),
        ("orders", {"plan": "monthly"}),
        ("reports", {"type": "activity", "period": "2026-01", "format": "csv"}),
    ):
        answer = httpx.post(f"{site}/api/{path}/", json=body, headers=headers)
        assert answer.status_code in (201, 202, 403, 404), answer.text
        if path == "posts" and answer.status_code == 201:
            httpx.post(f"{answer.headers['Location']}publish/", headers=headers).raise_for_status()
            httpx.post(f"{site}/api/{path}/", json=body, headers=headers).raise_for_status()


@pytest.mark.parametrize("role", ROLES)
def test_every_answer_is_as_described(site: str, role: str, tmp_path: Path) -> None:
    headers = sign_in(role)
    if headers:
        furnish(site, headers)
    command = [
        str(Path(sys.executable).with_name("st")), "run", f"{site}/api/schema/?format=json", "--url", site,
        "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing,stateful", "--seed", SEED,
        "--max-time", str(round(MINUTES * 60 / len(ROLES))), "--continue-on-failure", "--no-color",
        "--warnings", "off", "--suppress-health-check", "all", "--generation-database", "none",
        *(part for name, value in headers.items() for part in ("--header", f"{name}: {value}")),
        # It ends the token of all further requests.
        *(("--exclude-path", "/api/auth/logout/everywhere/") if headers else ()),
    ]  # fmt: skip
    done = subprocess.run(
        # Elsewhere, for it keeps what it found in the working directory.
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks"},
        check=False,
        capture_output=True, text=True, timeout=MINUTES * 60 + 600,
    )  # fmt: skip
    print(done.stdout[-4000:])
    assert done.returncode == 0, done.stdout[-50_000:] + done.stderr[-5000:]
