"""The oracle in its short form: `make reliability` is the long one."""

import subprocess
import sys

import pytest

from tests.processes import ROOT


def oracle(system: str) -> subprocess.CompletedProcess[str]:
    """A short run, with services and processes of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tests.oracle", system, "--short"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip


def test_nothing_is_lost_or_doubled() -> None:
    done = oracle("ours")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("lost 0, doubled 0 transactional, longest recovery "), done.stdout


@pytest.mark.parametrize("guard", ["reconciler"])
def test_the_oracle_notices_what_is_switched_off(guard: str) -> None:
    done = oracle(f"without-{guard}")

    assert done.returncode == 1, done.stdout + done.stderr
    assert "\nlost " in done.stdout, done.stderr
