"""What is done to the stack: how often, in which order and when is the seed's; to which process, chance as well."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
from collections.abc import Callable
from typing import Any

from tests.fault_injection.local.stack import Role, Stack

PATIENCE = 15.0
"""Seconds to wait for a moment at which a fault hurts: a task under work, a message in Redis."""
LONGEST_OUTAGE = 3.0
"""Seconds that Redis or Postgres is away, at most."""
BEHIND = 1.0
"""Seconds that a replica is behind its primary."""
REPLICA = {0: 8, 1: 9}
"""The databases in use (stock Celery has results in the second), and where their copies are kept meanwhile."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One blow, no sooner than ``at`` seconds from the start."""

    at: float
    kind: str
    rng: random.Random


def plan(seed: str, counts: dict[str, int], seconds: float) -> list[Fault]:
    """So many faults of each kind in random order, at random moments of the time."""
    rng = random.Random(f"{seed} faults")
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    rng.shuffle(kinds)
    moments = sorted(rng.uniform(0.03, 0.97) * seconds for _ in kinds)
    return [
        Fault(at, kind, random.Random(f"{seed} {number}"))
        for number, (at, kind) in enumerate(zip(moments, kinds, strict=True))
    ]


Doing = Callable[[Stack, random.Random, bool], str | None]
DO: dict[str, Doing] = {}
"""By kind. Each does its fault and tells it, or returns None where there is nothing to hit; patience over (the third
argument is False), it takes what is there."""


def fault(function: Doing) -> Doing:
    DO[function.__name__] = function
    return function


def _some_worker(stack: Stack, rng: random.Random, patient: bool, least: int = 1) -> tuple[Role | None, list[int]]:
    """A worker that works on ``least`` tasks, and its processes that do; patience over, any that is ready."""
    at_work = stack.working()
    ready = {role: sorted(at_work & set(role.children())) for role in stack.workers if role.ready(stack.timing.rest)}
    candidates = [role for role in ready if len(ready[role]) >= least] or ([] if patient else list(ready))
    if not candidates:
        return None, []
    role = rng.choice(candidates)
    return role, ready[role]


@fault
def worker(stack: Stack, rng: random.Random, patient: bool) -> str | None:
    role, at_work = _some_worker(stack, rng, patient)
    if role is None:
        return None
    stack.restart(role)
    return f"{role.name} killed with its children, {len(at_work)} tasks under work"


@fault
def child(stack: Stack, rng: random.Random, patient: bool) -> str | None:
    role, at_work = _some_worker(stack, rng, patient)
    children = at_work or (role.children() if role else [])
    if role is None or not children:
        return None
    os.kill(rng.choice(children), signal.SIGKILL)
    return f"{role.name}: a child killed, {min(len(at_work), 1)} tasks under work"


@fault
def pause(stack: Stack, rng: random.Random, patient: bool) -> str | None:
    """Stopped for so long that it counts as dead, then it goes on where it was: a node that was cut off."""
    role, at_work = _some_worker(stack, rng, patient, least=2)
    others = [other for other in stack.workers if other is not role and other.ready(stack.timing.rest)]
    if role is None or not others:  # nobody takes over what it had
        return None
    process = role.process
    role.signal(signal.SIGSTOP)
    role.paused = True
    seconds = stack.timing.silence * 1.5 + 2
    stack.later(seconds, lambda: role.go_on(process, main=False))
    # The main process, which would kill its children when it finds itself dead, is not always the first to wake.
    stack.later(seconds + 1, lambda: role.go_on(process, main=True))
    return f"{role.name} stopped for {seconds:g} s, {len(at_work)} tasks under work"


@fault
def relay(stack: Stack, rng: random.Random, patient: bool) -> str | None:
    if stack.relay is None:
        return "there is no relay to kill"
    if not stack.relay.ready(stack.timing.rest):
        return None
    stack.restart(stack.relay)
    return "relay killed"


def _away(service: Any, rng: random.Random, stack: Stack, signals: list[int]) -> str | None:
    if not service.running:
        return None
    service.end_signal = rng.choice(signals)
    seconds = rng.uniform(0, LONGEST_OUTAGE)
    service.stop()
    stack.later(seconds, service.start)
    return f"{service.name} ended by {signal.Signals(service.end_signal).name}, back after {seconds:.1f} s"


@fault
def redis(stack: Stack, rng: random.Random, patient: bool) -> str | None:
    return _away(stack.valkey, rng, stack, [signal.SIGTERM, signal.SIGKILL])


@fault
def postgres(stack: Stack, rng: random.Random, patient: bool) -> str | None:
    """Shut down fast, or at once: then it recovers from its log, as after a crash."""
    return _away(stack.postgres, rng, stack, [signal.SIGINT, signal.SIGQUIT])


@fault
def flushall(stack: Stack, rng: random.Random, patient: bool) -> str | None:
    if not stack.valkey.running or (patient and not stack.waiting()):
        return None
    count = stack.waiting()
    stack.valkey.client().flushall()
    return f"FLUSHALL, {count} messages waited"


_COPY = "for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('COPY', key, key, 'DB', ARGV[1]) end"


@fault
def failover(stack: Stack, rng: random.Random, patient: bool) -> str | None:
    """To a replica one second behind: what was taken since is there again, what was pushed since is not."""
    count = stack.waiting()
    at_work = _some_worker(stack, rng, patient)[0] is not None
    if not stack.valkey.running or (patient and not (count and at_work)):
        return None
    for used, spare in REPLICA.items():
        client = stack.valkey.client()
        client.select(used)
        client.eval(_COPY, 0, spare)

    def go_back() -> None:
        if not stack.valkey.running:
            stack.later(0.1, go_back)
            return
        for used, spare in REPLICA.items():
            client = stack.valkey.client()
            client.swapdb(used, spare)
            client.select(spare)
            client.flushdb()

    stack.later(BEHIND, go_back)
    return f"Redis fails over to a replica {BEHIND:g} s behind, {count} messages waited"
