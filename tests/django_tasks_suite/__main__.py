"""``python -m tests.django_tasks_suite``: Django's own tests of its Tasks framework, against our backend.

They come from Django's sdist. Their dummy backend is replaced with ours, and so is their immediate one, with a worker's
path in the same process. Returns 1 unless what fails is what ``docs/django-tasks.md`` lists.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import django

from app.local.servers import PROJECT

DOCUMENT = PROJECT / "docs" / "django-tasks.md"
LONGEST_RUN = 1800
"""Seconds: a hang guard."""
BUILT_IN = django.VERSION >= (6, 0)
RELEASE = django.get_version() if BUILT_IN else "6.0.8"
"""The Django whose tests these are. The package ``django-tasks`` has no tests in its sdist, and is a copy of it."""
OURS = "tests.django_tasks_suite.backends"
REPLACED = [
    (r"from django\.tasks\.backends\.dummy import DummyBackend", f"from {OURS} import Stored as DummyBackend"),
    (
        r"from django\.tasks\.backends\.immediate import ImmediateBackend",
        f"from {OURS} import Executed as ImmediateBackend",
    ),
    (r"django\.tasks\.backends\.dummy\.DummyBackend", f"{OURS}.Stored"),
    (r"django\.tasks\.backends\.immediate\.ImmediateBackend", f"{OURS}.Executed"),
    # Its backends need no database.
    (r"\b(SimpleTestCase|TransactionTestCase)\b, ", ""),
    (r"\b(SimpleTestCase|TransactionTestCase)\b", f"{OURS}.WithDatabase"),
    (r"\A", f"import {OURS}\n"),
]
OF_THE_PACKAGE = [
    (r"\bdjango\.tasks\b", "django_tasks"),
    (r"\bInvalidTask\b", "InvalidTaskError"),
    (r"\bInvalidTaskBackend\b", "InvalidTaskBackendError"),
    (r"Backend does not support async Tasks", "Backend does not support async tasks"),
]
"""The other names of the package."""


def fetched() -> Path:
    """The folder ``tests/tasks`` of Django's sdist."""
    folder = PROJECT / ".tools" / f"django-{RELEASE}"
    if not (folder / "tasks").is_dir():
        with tempfile.TemporaryDirectory() as temporary:
            pip = [PROJECT / ".tools" / "bin" / "python", "-m", "pip", "download", "--quiet", "--no-deps"]
            # Only its tests are used, on whatever Python this is.
            options = ["--no-binary", "django", "--ignore-requires-python", "--dest", temporary]
            subprocess.run([*pip, *options, f"django=={RELEASE}"], check=True)
            with tarfile.open(next(Path(temporary).glob("*.tar.gz"))) as archive:
                archive.extractall(temporary, filter="data")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copytree(Path(temporary) / f"django-{RELEASE}" / "tests" / "tasks", folder / "tasks")
    return folder / "tasks"


def listed() -> set[str]:
    """The tests that the document says cannot pass."""
    return set(re.findall(r"^\| `(\w+\.test_\w+)` \|", DOCUMENT.read_text(), re.MULTILINE))


def outcomes(folder: Path) -> dict[str, bool]:
    """Run the suite in the folder. Returns whether each test passed."""
    shutil.copytree(fetched(), folder / "tasks")
    # It has a backend of its own, and none of ours.
    (folder / "tasks" / "test_custom_backend.py").unlink()
    for path in (folder / "tasks").glob("*.py"):
        text = path.read_text()
        for pattern, replacement in REPLACED + ([] if BUILT_IN else OF_THE_PACKAGE):
            text = re.sub(pattern, replacement, text)
        path.write_text(text)
    report = folder / "outcomes"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.support.plugin",
        "-p",
        "tests.django_tasks_suite.report",
    ]
    command += ["-p", "no:cacheprovider", "--import-mode=importlib", "-c/dev/null", f"--rootdir={folder}"]
    environment = {
        **os.environ, "PYTHONPATH": f"{PROJECT}:{folder}", "DJANGO_SETTINGS_MODULE": "app.settings",
        "SUITE_OUTCOMES": str(report),
    }  # fmt: skip
    environment.pop("DATABASE_URL", None)
    done = subprocess.run(
        [*command, str(folder / "tasks")], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=LONGEST_RUN, check=False,
    )  # fmt: skip
    if not report.exists():
        sys.exit(done.stdout + done.stderr)
    return dict(json.loads(report.read_text()))


def main() -> int:
    """Print what differs from the document. Returns 0 if nothing does."""
    with tempfile.TemporaryDirectory(prefix="pressroom-suite-") as temporary:
        Path(temporary).chmod(0o755)
        found = outcomes(Path(temporary))
    failed = {name for name, passed in found.items() if not passed}
    for name in sorted(failed - listed()):
        print(f"{name} fails, and {DOCUMENT.name} does not say so")
    for name in sorted(listed() - failed):
        print(f"{name} passes or is gone, and {DOCUMENT.name} says that it fails")
    print(f"Django {RELEASE}: {len(found) - len(failed)} of {len(found)} tests pass, {len(failed)} are listed")
    return 1 if failed != listed() or len(found) < 60 else 0


if __name__ == "__main__":
    sys.exit(main())
