"""The judge of ``make limits`` sees what must not be, and nothing else."""

from __future__ import annotations

import pytest

from tests.fault_injection.limits.judge import (
    AT_ONCE,
    PERIOD,
    QUEUE_AT_ONCE,
    STARTS,
    Verdict,
    judge,
    most_at_once,
    spans,
)


def line(at: float, word: str, kind: str = "at_once", key: str = "1", number: int = 0, pid: int = 7) -> str:
    return f"{at} {word} {kind} {key} {number} {pid}"


def verdict(
    noted: list[str], called: int = 0, kind: str = "at_once", killed: dict[int, float] | None = None
) -> Verdict:
    calls = {(kind, "1", number): 0.0 for number in range(called)}
    return judge(calls, spans(noted, killed or {}), {"1"})


def bodies(times: list[tuple[float, float]], kind: str = "at_once") -> list[str]:
    return [
        text
        for number, (begin, end) in enumerate(times)
        for text in (line(begin, "begins", kind, number=number), line(end, "ends", kind, number=number))
    ]


def test_so_many_at_once_are_clean_and_one_more_is_not() -> None:
    some = [(0.0, 1.0)] * AT_ONCE
    assert verdict(bodies(some), AT_ONCE).is_clean
    found = verdict(bodies([*some, (0.5, 0.6)]), AT_ONCE + 1)
    assert (found.at_once, found.is_clean) == (AT_ONCE + 1, False)


def test_one_that_begins_when_another_ends_is_not_beside_it() -> None:
    assert most_at_once(spans(bodies([(0, 1), (1, 2), (2, 3)]), {})) == 1


def test_keys_count_together_for_the_queue_only() -> None:
    noted = [line(0.0, "begins", key=str(key)) for key in range(QUEUE_AT_ONCE + 1)]
    found = verdict(noted, killed={7: 1.0})
    assert (found.at_once, found.of_queue, found.is_clean) == (1, QUEUE_AT_ONCE + 1, False)
    assert verdict(noted[1:], killed={7: 1.0}).is_clean


def test_a_body_ends_with_its_process() -> None:
    noted = [line(0.0, "begins", number=0), line(0.0, "begins", number=1)]
    noted += [line(5.0, "begins", number=0, pid=8), line(6.0, "ends", number=0, pid=8)]
    found = verdict(noted, 2, killed={7: 4.0})
    assert (found.at_once, found.lost, found.missing) == (2, 2, 1)
    # If nobody killed it, it still runs.
    assert verdict(noted, 2).at_once == 3


@pytest.mark.parametrize(("seconds", "is_clean"), [(PERIOD, True), (PERIOD - 1, False)])
def test_a_rate_is_judged_in_every_window(seconds: float, is_clean: bool) -> None:
    begins = [100 + 0.001 * number for number in range(STARTS)] + [100 + seconds]
    found = verdict(bodies([(at, at) for at in begins], "rated"), STARTS + 1, "rated")
    assert found.shortest == pytest.approx(seconds)
    assert found.is_clean == is_clean


def test_a_call_that_is_not_done_is_missing() -> None:
    assert verdict([], 1).missing == 1
    assert not verdict([], 1).is_clean


def test_a_key_that_waits_much_longer_than_the_others_is_unfair() -> None:
    usual = {str(key) for key in range(20)}
    calls = {("at_once", key, 0): 0.0 for key in usual}

    def waits(longest: float) -> Verdict:
        noted = []
        for key in usual:
            at = longest if key == "3" else 1.0 + int(key) / 100
            noted += [line(at, "begins", key=key), line(at, "ends", key=key)]
        return judge(calls, spans(noted, {}), usual)

    assert waits(3.0).is_clean
    assert not waits(30.0).is_clean
