"""The oracle in its short form: `make reliability` is the long one."""

import subprocess
import sys

import pytest

from tests.support.processes import ROOT

pytestmark = pytest.mark.timeout(600)


def oracle(system: str) -> tuple[int, str]:
    """Exit code and output of a short run, with services and processes of its own."""
    command = [sys.executable, "-m", "tests.fault_injection.local", system, "--short"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:  # fmt: skip
        try:
            output = process.communicate(timeout=500)[0]
        finally:
            process.terminate()  # it ends what it has started
    return process.returncode, output


@pytest.mark.parametrize("system", ["ours", "bundles"])
def test_nothing_is_lost_or_doubled(system: str) -> None:
    code, output = oracle(system)

    assert code == 0, output
    assert output.splitlines()[-1].startswith("lost 0, doubled 0 transactional, longest recovery "), output


def test_it_is_noticed_when_the_reconciler_is_switched_off() -> None:
    code, output = oracle("without-reconciler")

    assert code == 1, output
    assert "\nlost " in output, output
