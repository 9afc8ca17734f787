"""What `make bench` counts, asks and writes; that it measures is for `make bench` to show."""

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest
from django.db import connection

from app.local.servers import PROJECT
from bench import curve, page
from bench.drawing import number, table
from bench.figures import (
    COMPARED,
    SITES,
    Asked,
    Figures,
    Offered,
    Posts,
    asked,
    counted,
    medians,
    percentile,
    under_load,
)
from bench.measure import begun, offered, rates
from bench.peers import RECORD, SETUPS, Effects, effect
from bench.peers.__main__ import CURVE
from bench.peers.calls import DjangoCalls
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


MEASURED = {
    "pressroom": Figures(
        "Pressroom", enqueue=1500, enqueue_many=9000, drained=1800, idle_p50=4, idle_p99=12, cpu_workers=0.7,
        cpu_beside=0.02, cpu_postgres=0.4, cpu_redis=99,
        curve=[Offered(50, 50, 2, 9), Offered(100, 100, 2, 18), Offered(200, 195, 2, 20), Offered(300, 250, 2, 999)],
    ),
    "pressroom_bundles": Figures("Pressroom, bundle=100", drained=3600),
    "huey": Figures("Huey", drained=4000),
    "celery_acks_late": Figures(
        "Celery, acks_late", enqueue=3000, drained=1000, idle_p50=5, idle_p99=10, cpu_workers=1.3, cpu_redis=0.2,
        cpu_postgres=99,
        curve=[Offered(50, 50, 2, 9), Offered(100, 100, 2, 10), Offered(200, 200, 2, 16), Offered(300, 300, 2, 3)],
    ),
    "celery_default": Figures("Celery", enqueue=1, drained=1, idle_p50=99, idle_p99=99, cpu_workers=1),
    "oban": Figures("Oban for Python", enqueue=1600, enqueue_many=6000, drained=2000),
    "procrastinate": Figures("Procrastinate", error="fell over"),
}  # fmt: skip


def test_what_is_asked_of_ours() -> None:
    posts = [
        Posts("plain", 1, 6, 9), Posts("pressroom", 1, 8.5, 12), Posts("celery", 1, 8.25, 99), Posts("oban", 1, 1, 1),
        Posts("plain", 10, 40, 60), Posts("pressroom", 10, 50, 90), Posts("celery", 10, 1, 1),
    ]  # fmt: skip
    found = {one.text: (one.value, one.kept) for one in asked(MEASURED, posts)}
    of_both = "at every rate that both keep up with (50 to 200 calls/s, worst at 100)"
    cpu_ratio, cpu_kept = found.pop("CPU of workers, relay and Postgres to that of stock Celery's workers and Valkey")
    assert cpu_ratio == pytest.approx(1.12 / 1.5)
    assert cpu_kept is True
    assert found == {
        "enqueue/s one by one to stock Celery's": (0.5, False),
        "enqueue/s one by one to Oban's": (0.9375, True),
        "enqueue/s in one transaction to Oban's": (1.5, True),
        "drained/s one by one to stock Celery's": (1.8, False),
        "drained/s with bundles to Oban's": (1.8, True),
        "drained/s with bundles to Huey's": (0.9, False),
        "idle p50 to stock Celery's": (0.8, True),
        "idle p99 to stock Celery's": (1.2, False),
        f"commit→start p99 to stock Celery's {of_both}": (1.8, False),
        "ms by which POST with a durable task exceeds POST with stock Celery, p50 at 1 client": (0.25, True),
        "POST with a durable task to POST without, p50 at 10 clients": (1.25, False),
    }


def test_a_rate_that_one_does_not_keep_up_with_is_not_compared() -> None:
    ours = Figures("Pressroom", curve=[Offered(50, 40, 2, 999)])
    stock = Figures("Celery, acks_late", curve=[Offered(50, 50, 2, 9)])
    assert under_load(ours, stock).value is None
    assert under_load(None, stock).value is None
    assert under_load(ours, None).value is None


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (Offered(100, 100, 1, 2), True),
        (Offered(100, 95, 1, 2), True),
        (Offered(100, 94.9, 1, 2), False),
        (Offered(100, 100, 1, 2, missing=1), False),
    ],
    ids=str,
)
def test_whether_a_rate_is_kept(one: Offered, expected: bool) -> None:
    assert one.kept is expected


def test_what_came_of_calls_at_a_rate() -> None:
    """Of three calls in two seconds, each begins half a second later; the last a whole second."""
    committed = {1: 10.0, 2: 11.0, 3: 12.0}
    starts = {1: 10.5, 2: 11.5, 3: 13.0, 99: 50.0}
    assert offered(1.0, 10.0, 12.0, committed, starts, 0) == Offered(1.0, 2 / 3, 500.0, 1000.0)
    assert offered(1.0, 10.0, 12.0, committed, {1: 10.5}, 2) == Offered(1.0, 0.0, 500.0, 500.0, 2)
    assert offered(1.0, 10.0, 12.0, committed, {}, 3) == Offered(1.0, 0.0, None, None, 3)
    with pytest.raises(RuntimeError, match="2 calls at 1/s had not begun"):
        begun(Offered(1.0, 0.0, missing=2))


def test_rates() -> None:
    assert rates("50,100,1.5") == [50, 100, 1.5]
    assert rates("") == []
    for wrong in ("0", "-1", "nan", "inf", "x"):
        with pytest.raises(ValueError, match=wrong if wrong == "x" else f"^{wrong}$"):
            rates(wrong)


def test_medians() -> None:
    turns = [
        Figures("Oban", enqueue=1, drained=5, idle_p99=None, kills=3, curve=[Offered(50, 50)]),
        Figures("Oban", enqueue=9, drained=7, idle_p99=4.0, error="fell over"),
        Figures("Oban", enqueue=2, drained=None, idle_p99=None, kills=99),
    ]
    assert medians(turns) == Figures(
        "Oban", turns=3, enqueue=2, drained=6, idle_p99=4.0, kills=3, curve=[Offered(50, 50)], error="fell over"
    )
    assert medians(turns[:1]) == turns[0]


def test_figures_survive_their_file() -> None:
    figures = Figures("Oban", {"oban": "0.7.0"}, slots=20, curve=[Offered(50, 49.5, 1.0, 2.0)])
    assert Figures.loaded(json.loads(json.dumps(dataclasses.asdict(figures)))) == figures
    assert Figures.loaded({"title": "Oban"}) == Figures("Oban")


def test_without_any_figures_nothing_is_claimed() -> None:
    assert {one.kept for one in asked({})} == {None}
    assert {one.kept for one in asked({name: Figures(name) for name in SETUPS}, [Posts("plain", 1, 1, 1)])} == {None}


def test_rows_are_as_wide_as_their_heads() -> None:
    empty = Figures("x")
    assert len(page.speed_row(empty)) == len(page.SPEED)
    assert len(page.cost_row(empty)) == len(page.COST)
    posts = [Posts("plain", 1, 6, 9), Posts("oban", 10, 5000, 60), Posts("plain", 10, 40, 60)]
    assert page.posts_head(posts) == ["", "1 client, p50", "1 client, p99", "10 clients, p50", "10 clients, p99"]
    assert page.posts_rows(posts) == [
        [SITES["plain"], "6.0", "9.0", "40.0", "60.0"],
        [SITES["oban"], "–", "–", "5,000.0", "60.0"],
    ]
    assert table(("", "a"), [["x", "1"]]) == "|  | a |\n| --- | --: |\n| x | 1 |"
    assert (number(None), number(0), number(1234.5678, 1)) == ("–", "0", "1,234.6")


def test_the_commit_and_outside_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setattr(page, "PROJECT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert page.commit() == "unknown"
    git("init", "--quiet")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "--quiet", "--message=one")
    assert page.commit() == git("rev-parse", "--short", "HEAD")
    (tmp_path / "file").write_text("2")
    assert page.commit() == git("rev-parse", "--short", "HEAD") + "+"


def test_the_table_of_the_curve() -> None:
    rows = [
        Figures("Celery", curve=[Offered(50, 50, 1, 2), Offered(1000, 700.4, 8, 9000)]),
        Figures("Huey"),
        Figures("Oban", curve=[Offered(50, 1, missing=9)]),
    ]
    assert curve.table(rows).splitlines() == [
        "| calls/s | Celery | Oban |",
        "| --- | --: | --: |",
        "| 50 | 1.0 / 2.0 | – / –, reached 1 |",
        "| 1,000 | 8.0 / 9,000.0, reached 700 | – |",
    ]


def test_the_picture_of_the_curve(tmp_path: Path) -> None:
    rows = [
        Figures("Celery", curve=[Offered(50, 50, 1, 2), Offered(1000, 700, 8, 9000)]),
        Figures("Huey"),
        Figures("Oban", curve=[Offered(50, 1, missing=9)]),
    ]
    curve.picture(rows, tmp_path / "images" / "latency.svg")
    svg = (tmp_path / "images" / "latency.svg").read_text()
    assert svg.count("<circle") == 4
    assert [title in svg for title in ("Celery", "Huey", "Oban", "10000")] == [True, False, True, True]
    curve.picture([], tmp_path / "none.svg")


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
    assert "latency.svg" not in text
    page.write(copy, page.block([Figures("Huey", curve=[Offered(50, 50, 1, 2)])], [], [], "Today."))
    assert "latency.svg" in copy.read_text()
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
    assert {*COMPARED, *CURVE} <= {*SETUPS}
    for name in SETUPS:
        assert (PROJECT / "bench" / "peers" / f"{name}.py").is_file()


@pytest.mark.django_db(transaction=True)
def test_a_call_outside_of_transactions_is_made_after_the_commit() -> None:
    made: list[tuple[int, bool]] = []

    def one(number: int, payload: str) -> None:
        made.append((number, connection.in_atomic_block))

    began = time.monotonic()
    assert began <= DjangoCalls(one).committed(1, "") <= time.monotonic()
    assert began <= DjangoCalls(one, transactional=True).committed(2, "") <= time.monotonic()
    DjangoCalls(one).each([3, 4], "")
    assert made == [(1, False), (2, True), (3, False), (4, False)]


@pytest.mark.django_db(transaction=True)
def test_calls_together_are_one_transaction_or_none() -> None:
    made: list[tuple[list[int], bool]] = []

    def many(numbers: Iterable[int], payload: str) -> None:
        made.append((list(numbers), connection.in_atomic_block))

    assert DjangoCalls(print, many).together([1, 2], "") is True
    assert made == [([1, 2], True)]
    assert DjangoCalls(print).together([1, 2], "") is False


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
