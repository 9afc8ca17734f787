"""A worker can tell that the process of its predecessor has ended."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pressroom.process import place

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells where a process runs")


def changed(**parts: object) -> str:
    names = ("container", "namespace", "pid", "started")
    return json.dumps(list((dict(zip(names, json.loads(place.own_place()), strict=True)) | parts).values()))


def test_a_process_that_ended_is_gone_and_one_that_lives_is_not() -> None:
    code = "from pressroom.process import place; print(place.own_place(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        there = process.stdout.readline().strip()
        assert not place.is_gone(there, place.own_place())
        process.kill()
        # Not reaped yet.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert place.is_gone(there, place.own_place())
    assert place.is_gone(there, place.own_place())


def test_a_process_with_the_number_of_one_that_ended_is_another() -> None:
    assert not place.is_gone(place.own_place(), place.own_place())
    assert place.is_gone(changed(started="1"), place.own_place())


def test_of_another_machine_nothing_is_known() -> None:
    assert not place.is_gone(changed(namespace="elsewhere", pid=2**22), place.own_place())


def test_a_container_that_was_started_again_is_gone() -> None:
    own = changed(container="a-pod/worker")
    assert place.is_gone(changed(container="a-pod/worker", namespace="another"), own)
    assert not place.is_gone(changed(container="another-pod/worker", namespace="another"), own)
    # Two workers in one container.
    assert not place.is_gone(own, own)


def test_a_place_that_the_system_does_not_tell_is_never_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = place.own_place()
    monkeypatch.setattr(place, "PROC", tmp_path)
    assert place.own_place() == ""
    assert not place.is_gone(there, place.own_place())
    assert not place.is_gone("", there)
