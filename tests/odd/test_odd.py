"""The fuzzer in its short form: `make odd` is the long one."""

import subprocess
import sys

import pytest

from tests.support.processes import ROOT

pytestmark = pytest.mark.timeout(600)
SEED = "a seed"
"""The same each time: a test that fails can be repeated. `make odd` draws anew."""


def odd(*arguments: str) -> tuple[int, str]:
    """Exit code and output of a run, with services and processes of its own."""
    command = [sys.executable, "-m", "tests.odd", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:  # fmt: skip
        try:
            output = process.communicate(timeout=500)[0]
        finally:
            process.terminate()  # it ends what it has started
    return process.returncode, output


def test_one_odd_call_stops_nobody_else() -> None:
    code, output = odd("--short", "--seed", SEED)

    assert code == 0, output
    assert output.splitlines()[-1].endswith("; 0 findings"), output


@pytest.mark.parametrize("guard", ["without_isolation", "without_dispatch_counter"])
def test_it_is_noticed_when_a_guard_is_switched_off(guard: str) -> None:
    code, output = odd(guard, "--seed", SEED)

    assert code == 1, output
    assert "finding 1: " in output, output
