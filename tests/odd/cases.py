"""From a seed to cases: hypothesis draws them, kind by kind, so that a seed gives the same ones again."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.odd.book import Case
from tests.odd.kinds import load

MODES = ["outside", "inside", "inside", "on commit"]
QUEUES = ["default", "emails"]


def draw(strategy: st.SearchStrategy[Any], of: str, count: int) -> list[Any]:
    """So many values of the strategy. The first that hypothesis gives is always the simplest: it is left out."""
    found: list[Any] = []
    part = 0
    while len(found) <= count:
        # The number keeps hypothesis from ending because it has drawn all there is.
        @seed(f"{of} {part}")
        @settings(
            max_examples=count + 1 - len(found), database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(strategy, st.integers(0, 2**64))
        def collect(value: Any, _: int) -> None:
            found.append(value)

        collect()
        part += 1
    return found[1 : count + 1]


def cases(of: str, count: int, only: list[str]) -> list[Case]:
    """``count`` cases of the seed ``of``, of all kinds or of those named."""
    kinds = {name: kind for name, kind in sorted(load().items()) if not only or name in only}
    rng = random.Random(of)
    names = rng.choices(list(kinds), [kind.weight for kind in kinds.values()], k=max(0, count - len(kinds)))
    # Each at least once, in a short run too.
    names = [*list(kinds)[:count], *names]
    rng.shuffle(names)
    drawn = {
        name: iter(draw(st.tuples(kind.strategy, st.sampled_from(MODES), st.sampled_from(QUEUES)), f"{of} {name}", n))
        for name, kind in kinds.items()
        if (n := names.count(name))
    }
    return [Case(number, name, *next(drawn[name])) for number, name in enumerate(names)]
