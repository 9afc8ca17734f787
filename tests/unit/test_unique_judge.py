"""The judge of ``make unique`` sees what must not be, and nothing else."""

from __future__ import annotations

import pytest

from tests.fault_injection.unique.judge import DONE, PERIOD, SECONDS, WAITING, Verdict, bodies, calls, judge

KINDS = pytest.mark.parametrize("kind", [WAITING, DONE, SECONDS])


def call(kind: str, began: float, given: str = "a", word: str = "committed", key: str = "k") -> str:
    """A call that takes 0.1 s, in a transaction of 0.2 s."""
    return f"{began} {began + 0.1} {began + 0.2} {word} {kind} {key} {given}"


def body(kind: str, began: float, ended: float, task_id: str = "a", pid: int = 7) -> list[str]:
    return [f"{at} {word} {kind} k {task_id} {pid}" for at, word in ((began, "begins"), (ended, "ends"))]


def verdict(made: list[str], executed: list[list[str]]) -> Verdict:
    return judge(calls(made), bodies(sorted(line for one in executed for line in one)))


def faults(found: Verdict) -> dict[str, int]:
    names = ("twice", "missing", "unwanted", "doubled", "stale")
    counts = {name: getattr(found, name) for name in names} | {"stale": found.stale.total()}
    return {name: count for name, count in counts.items() if count}


@KINDS
def test_many_calls_and_one_run_are_clean(kind: str) -> None:
    found = verdict([call(kind, 1.0), call(kind, 1.05), call(kind, 1.3)], [body(kind, 2.0, 3.0)])
    assert found.is_clean
    assert (found.calls, found.periods[kind], found.bodies[kind]) == (3, 1, 1)


@KINDS
def test_a_call_without_a_run_is_missing(kind: str) -> None:
    assert faults(verdict([call(kind, 1.0)], [])) == {"missing": 1}


def test_nothing_called_is_not_clean() -> None:
    assert not verdict([], []).is_clean


@KINDS
def test_a_rolled_back_call_has_no_run(kind: str) -> None:
    undone = call(kind, 1.0, "u", "undone")
    assert verdict([undone, call(kind, 1.3)], [body(kind, 2.0, 3.0)]).is_clean
    found = verdict([undone, call(kind, 1.3)], [body(kind, 1.2, 1.25, "u"), body(kind, 2.0, 3.0)])
    assert faults(found)["unwanted"] == 1


@KINDS
def test_a_run_that_is_executed_twice_is_doubled(kind: str) -> None:
    found = verdict([call(kind, 1.0)], [body(kind, 2.0, 3.0), body(kind, 2.0, 3.0, pid=8)])
    assert faults(found) == {"doubled": 1}


def test_while_waiting_the_next_one_may_be_stored_when_the_first_begins() -> None:
    made = [call(WAITING, 1.0), call(WAITING, 2.5, "b")]
    assert verdict(made, [body(WAITING, 2.0, 3.0), body(WAITING, 3.0, 4.0, "b")]).is_clean
    # The process was busy until 2.9 s, so the first one still waited when the second was stored.
    busy = body(WAITING, 1.0, 2.9, "x")
    found = verdict([*made, call(WAITING, 0.5, "x")], [busy, body(WAITING, 3.0, 4.0), body(WAITING, 4.0, 5.0, "b")])
    assert faults(found) == {"twice": 1}


def test_while_waiting_a_call_is_not_given_a_run_that_has_begun() -> None:
    found = verdict([call(WAITING, 1.0), call(WAITING, 2.5)], [body(WAITING, 2.0, 3.0)])
    assert faults(found) == {"stale": 1}


def test_a_run_that_begins_before_the_commit_is_counted_but_allowed() -> None:
    found = verdict([call(WAITING, 1.0), call(WAITING, 1.9)], [body(WAITING, 2.05, 3.0)])
    assert (found.early, found.is_clean) == (1, True)


@pytest.mark.parametrize(("stored", "is_clean"), [(2.5, False), (3.0, True)])
def test_until_done_the_next_one_is_stored_after_the_end_of_the_first(stored: float, is_clean: bool) -> None:
    made = [call(DONE, 1.0), call(DONE, stored, "b")]
    assert verdict(made, [body(DONE, 2.0, 3.0), body(DONE, 4.0, 5.0, "b")]).is_clean == is_clean


@pytest.mark.parametrize(("began", "is_clean"), [(3.5, True), (4.5, False)])
def test_until_done_a_call_is_not_given_a_run_after_which_its_process_has_begun_another(
    began: float, is_clean: bool
) -> None:
    made = [call(DONE, 1.0), call(DONE, began), call(WAITING, 1.0, "b")]
    assert verdict(made, [body(DONE, 2.0, 3.0), body(WAITING, 4.0, 5.0, "b")]).is_clean == is_clean


@pytest.mark.parametrize(("after", "is_clean"), [(PERIOD - 1, False), (PERIOD + 1, True)])
def test_in_so_many_seconds_there_is_one(after: float, is_clean: bool) -> None:
    made = [call(SECONDS, 1.0), call(SECONDS, 1.0 + after, "b")]
    assert verdict(made, [body(SECONDS, 2.0, 2.1), body(SECONDS, 9.0, 9.1, "b")]).is_clean == is_clean
    given = [call(SECONDS, 1.0), call(SECONDS, 1.0 + after)]
    assert verdict(given, [body(SECONDS, 2.0, 2.1)]).is_clean != is_clean


@pytest.mark.parametrize(("began", "is_clean"), [(1.5, True), (2.5, False)])
def test_a_caller_who_is_told_nothing_needs_a_run_that_stands(began: float, is_clean: bool) -> None:
    found = verdict([call(WAITING, 1.0), call(WAITING, began, "-")], [body(WAITING, 2.0, 3.0)])
    assert (found.is_clean, found.unnamed) == (is_clean, 1)


def test_keys_are_apart() -> None:
    made = [call(DONE, 1.0), call(DONE, 1.0, "b", key="other")]
    found = verdict(
        made, [body(DONE, 2.0, 3.0), [line.replace(" k ", " other ") for line in body(DONE, 2.0, 3.0, "b")]]
    )
    assert (found.is_clean, found.keys) == (True, 2)
