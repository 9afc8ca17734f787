"""What `make bench` counts, asks and writes; that it measures is for `make bench` to show."""

import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.local.servers import PROJECT
from bench import page
from bench.figures import Asked, Figures, Posts, asked, counted, percentile
from bench.peers import RECORD, SETTINGS, Effects, effect
from bench.trees import Commands, cpu, kill, memory, tree
from tests.support.waiting import until


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100), (0.0, 1)], ids=str)
def test_percentile(share: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), share) == expected


def test_percentile_of_few_and_of_none() -> None:
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_counted() -> None:
    assert counted([3, 1, 3, 3, 99], range(1, 5)) == (2, 2)
    assert counted([], range(1, 5)) == (4, 0)


def test_asked() -> None:
    assert str(Asked("a", 0.8, 0.8)) == "a ≥ 0.8: 0.80, yes"
    assert str(Asked("a", 0.79, 0.8)) == "a ≥ 0.8: 0.79, no"
    assert str(Asked("a", 1.6, 1.6, at_least=False)) == "a ≤ 1.6: 1.60, yes"
    assert str(Asked("a", 1.61, 1.6, at_least=False)) == "a ≤ 1.6: 1.61, no"
    assert str(Asked("a", None, 3)) == "a ≥ 3: not measured"


def test_what_is_asked_of_ours() -> None:
    measured = {
        "pressroom": Figures("Pressroom", drained=800, enqueue=1500, enqueue_many=9000, idle_p99=30, cpu_workers=1.4),
        "pressroom_bundles": Figures("Pressroom, bundle=100", drained=2700),
        "huey": Figures("Huey", drained=3000),
        "celery_acks_late": Figures("acks_late", drained=1000),
        "celery_default": Figures("Celery", enqueue=3000, enqueue_many=2000, idle_p99=10, cpu_workers=1),
        "rq_worker": Figures("RQ", drained=200),
        "rq_simple": Figures("RQ, SimpleWorker", drained=900),
        "procrastinate": Figures("Procrastinate", error="fell over"),
    }
    posts = [Posts(1, 10, 20, 12.5, 40), Posts(10, 1, 1, 100, 100)]
    told = {one.text: (one.value, one.kept) for one in asked(measured, posts)}
    assert told == {
        "drained/s to Celery's with acks_late": (0.8, True),
        "drained/s to RQ's": (4.0, True),
        "drained/s to RQ SimpleWorker's": (800 / 900, False),
        "drained/s to Procrastinate's": (None, None),
        "drained/s with bundles to Huey's": (0.9, False),
        "enqueue/s one by one to Celery's": (0.5, False),
        "enqueue/s in one transaction to Celery's": (4.5, True),
        "commit→start p99 at 20/s to Celery's": (3.0, False),
        "commit→start p99 at half load to Celery's": (None, None),
        "workers' CPU per 1,000 to Celery's": (1.4, True),
        "ms that a durable task adds to POST /api/posts/, p50 at 1 client": (2.5, True),
    }


def test_without_any_figures_nothing_is_claimed() -> None:
    assert {one.kept for one in asked({})} == {None}


def test_rows_are_as_wide_as_their_heads() -> None:
    empty = Figures("x")
    assert len(page.speed_row(empty)) == len(page.SPEED)
    assert len(page.cost_row(empty)) == len(page.COST)
    assert len(page.posts_row(Posts(1, 2, 3, 4, 5))) == len(page.POSTS)
    assert page.table(("", "a"), [["x", "1"]]) == "|  | a |\n| --- | --: |\n| x | 1 |"
    assert (page.number(None), page.number(0), page.number(1234.5678, 1)) == ("–", "0", "1,234.6")


def test_what_ended_a_program() -> None:
    log = 'a line\nTraceback (most recent call last):\n  File "x.py"\napp.Away: it is away\n\nNote: more\n'
    assert page.raised(log) == "app.Away: it is away"
    assert page.raised("killed, out of memory\n") == ""


def test_the_page_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    copy = tmp_path / "performance.md"
    shutil.copy(PROJECT / "docs" / "performance.md", copy)
    before = copy.read_text().partition(page.BEGIN)[0]
    failed = Figures("Huey", drained=1234, error="fell over")
    for _ in range(2):
        page.write(copy, page.block([failed], [], asked({}), "Today."))
    text = copy.read_text()
    assert text.startswith(before)
    assert text.count("| Huey |") == 2
    assert text.count("Huey ended early: fell over") == 1
    (tmp_path / "other.md").write_text("no marks")
    with pytest.raises(ValueError, match="written by make bench"):
        page.write(tmp_path / "other.md", "text")


def test_the_picture_has_a_bar_for_each(tmp_path: Path) -> None:
    rows = [Figures("Huey", drained=1234, not_done=0), Figures("Pressroom", drained=617)]
    page.picture(rows, tmp_path / "images" / "performance.svg")
    svg = (tmp_path / "images" / "performance.svg").read_text()
    assert "1,234" in svg
    assert svg.count("Pressroom") == len(page.PANELS)


def test_effects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_EFFECTS", str(tmp_path / "effects"))
    (tmp_path / "effects").touch()
    effect(1)
    effects = Effects()
    assert (len(effects), effects.read()) == (0, [])
    effect(7)
    effect(2**40)
    with (tmp_path / "effects").open("ab") as file:
        file.write(RECORD.pack(8, 0.0)[:-1])  # one that is being written
    (first, began), (second, later) = effects.read()
    assert (len(effects), first, second) == (2, 7, 2**40)
    assert began <= later


def test_each_peer_has_a_file_of_its_own() -> None:
    for name in SETTINGS:
        assert (PROJECT / "bench" / "peers" / f"{name}.py").is_file()


PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
while time.process_time() < 0.1:  # several of the kernel's ticks
    pass
print("ready", flush=True)
time.sleep(600)
"""


def test_a_killed_tree_leaves_no_child_and_is_started_again(tmp_path: Path) -> None:
    with Commands([[sys.executable, "-c", PARENT]], tmp_path / "log") as commands:
        commands.wait_for("ready")
        [process] = commands.processes
        before = tree(process)
        assert len(before) == 2
        assert cpu([process]) > 0
        assert memory([process]) > 1
        commands.kill_and_restart(5)  # of one command the first
        for one in before:
            until(lambda one=one: not one.is_running() or one.status() == psutil.STATUS_ZOMBIE, f"{one} is gone")
        until(lambda: commands.log.read_text().count("ready") == 2, "it runs again")
        after = tree(commands.processes[0])
    assert not any(one.is_running() for one in after)


def test_who_ends_by_itself_is_noticed(tmp_path: Path) -> None:
    failing = Commands([[sys.executable, "-c", "raise SystemExit('no more')"]], tmp_path / "log")
    with failing, pytest.raises(RuntimeError, match=r"ended with 1: no more"):
        failing.wait_for("ready")


def test_to_kill_what_has_ended_does_nothing() -> None:
    popen = subprocess.Popen([sys.executable, "-c", ""])
    process = psutil.Process(popen.pid)
    popen.wait()
    kill(process)
    assert tree(process) == []
