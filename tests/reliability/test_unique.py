"""Unique calls from eight processes, judged from outside: `make unique` is the long form."""

import subprocess
import sys

import pytest

from tests.support.processes import ROOT

pytestmark = pytest.mark.timeout(1200)


def run(system: str) -> tuple[int, str]:
    """Exit code and output of two waves, with services and processes of its own."""
    command = [sys.executable, "-m", "tests.fault_injection.unique", system, "--waves", "2"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:  # fmt: skip
        try:
            output = process.communicate(timeout=1000)[0]
        finally:
            process.terminate()  # it ends what it has started
    return process.returncode, output


def test_there_is_one_run_for_each_key_and_period() -> None:
    code, output = run("ours")

    assert code == 0, output
    assert output.splitlines()[-1].startswith("exactly one run for each key and period: yes; 1,792 calls"), output


def test_it_is_noticed_when_the_unique_index_is_missing() -> None:
    code, output = run("index")

    assert code == 1, output
    assert output.splitlines()[-1].startswith("exactly one run for each key and period: no;"), output
