"""Django's own tests of its Tasks framework pass, but for those that `docs/django-tasks.md` lists."""

from __future__ import annotations

import subprocess
import sys

from tests.support.processes import ROOT


def test_the_suite() -> None:
    command = [sys.executable, "-m", "tests.django_tasks_suite"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
