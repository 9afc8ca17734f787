"""Whether an installation has what the application reads of its packages: ``python - < tests/support/probes/whole.py``.

Runs where the application is installed, without a database, Redis or network. Prints a line for each thing that is
there; fails at the first that is not.
"""

from __future__ import annotations

import importlib
import io
import os
import pkgutil
import re
import secrets
from importlib.util import find_spec

ENVIRONMENT = {
    "ALLOWED_HOSTS": "localhost", "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing",
    "SECRET_KEY": secrets.token_urlsafe(50),
    "SITE_URL": "https://press.example.org", "DEFAULT_FROM_EMAIL": "Press <press@example.org>",
    "EMAIL_URL": "ses://id:key@?region=eu-west-1",
    "S3_BUCKET": "press", "S3_REGION": "eu-west-1", "S3_ACCESS_KEY_ID": "id", "S3_SECRET_ACCESS_KEY": "key",
    "DJANGO_SETTINGS_MODULE": "app.settings",
}  # fmt: skip


def modules() -> str:
    import app
    import pressroom

    names = [
        found.name
        for package in (app, pressroom)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    for name in names:
        # What runs the stack on a laptop is not in the image.
        if not name.startswith("app.local"):
            importlib.import_module(name)
    return f"{len(names)} modules"


def report() -> str:
    if find_spec("app.reports") is None:
        return "no reports"
    from app.reports.pdf import write_pdf
    from app.reports.sections import Chart, Column, Section

    file = io.BytesIO()
    table = Section(columns=[Column("제목", 1.0)], rows=[["큐는 잊는다"]], chart=Chart("구독자", ["1월"], [3]))
    write_pdf(file, title="활동 보고서", period="2026", made="", titles=["글"], sections=[table])
    assert file.getvalue().startswith(b"%PDF-")
    return f"a report in Korean, {file.tell()} bytes"


def clients() -> str:
    from django.core.files.storage import default_storage
    from django.core.mail import get_connection

    url = default_storage.url("name")
    assert "/press/name?" in url or "press.s3." in url, url
    assert get_connection().open()
    return "clients of S3 and SES"


def translations() -> str:
    from django.utils import translation

    with translation.override("ko"):
        assert translation.gettext("Log in") != "Log in"
    return "Django in Korean"


def static_files() -> str:
    from django.test import Client

    client = Client(headers={"host": "localhost"})
    paths: set[str] = set()
    for page in ("/admin/login/", "/api/docs/", "/api/redoc/"):
        paths |= set(re.findall(r'/static/[^"\')\s]+', client.get(page, secure=True).text))
    assert len(paths) > 5, paths
    for path in paths:
        answer = client.get(path, secure=True)
        assert answer.status_code == 200, path
        answer.close()
    return f"{len(paths)} static files of pages"


def main() -> None:
    os.environ |= ENVIRONMENT
    import django

    django.setup()
    from django.core.management import call_command

    call_command("check")
    for try_it in (modules, report, clients, translations, static_files):
        print(try_it())


main()
