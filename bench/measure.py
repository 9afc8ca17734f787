"""Measure one task queue: ``python -m bench.measure <module of bench.peers> <file for the results> …``.

The steps: make N calls one by one, while no worker runs. Start the workers and wait until they have drained the calls.
Make calls to the idle workers, at 20 a second, at half of the drained rate and at each of ``--rates``. Then make N
calls in one transaction and start the workers again. Meanwhile, kill one worker with its children and restart it at
once, K times. With ``--short``, only what is cheap is measured: without load and kills.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import math
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.figures import Figures, Offered, counted, percentile
from bench.peers import Effects, Peer
from bench.trees import Commands, busy, cpu, memory

PAYLOAD = "x" * 1024
STUCK = 60.0
"""Seconds without an effect after which a backlog counts as stuck."""
MOST_CALLS = 50_000
"""Maximum number of calls for measuring the time from commit to start."""
LONGEST = 900.0
"""Maximum number of seconds to wait after the last kill."""
LATE = 30.0
"""Seconds that the last of these calls has to begin."""
IDLE_RATE = 20.0


class Run:
    """The measurement of one task queue. Each step saves the results so far to ``file``."""

    def __init__(self, peer: Peer, file: Path, tasks: int, seconds: float, services: dict[str, psutil.Process]) -> None:
        self.peer = peer
        self.file = file
        self.seconds = seconds
        self.services = services
        self.figures = Figures(peer.title, {name: version(name) for name in peer.distributions}, peer.slots, tasks)
        self.tasks = tasks
        self._next = 1
        self.save()

    def save(self) -> None:
        self.file.write_text(json.dumps(dataclasses.asdict(self.figures)))

    def numbers(self, count: int) -> range:
        """Return numbers for tasks that have not been called yet."""
        first, self._next = self._next, self._next + count
        return range(first, self._next)

    def enqueue(self) -> range:
        numbers = self.numbers(self.tasks)
        self.peer.calls.each(self.numbers(1), PAYLOAD)  # opens connections
        began = time.monotonic()
        self.peer.calls.each(numbers, PAYLOAD)
        self.figures.enqueue = len(numbers) / (time.monotonic() - began)
        self.save()
        return numbers

    def enqueue_many(self) -> range:
        """Make all calls in one transaction. If the framework cannot, make them one by one without measuring."""
        numbers = self.numbers(self.tasks)
        began = time.monotonic()
        if self.peer.calls.together(numbers, PAYLOAD):
            self.figures.enqueue_many = len(numbers) / (time.monotonic() - began)
            self.save()
        else:
            self.peer.calls.each(numbers, PAYLOAD)
        return numbers

    def drain(self, effects: Effects, workers: Commands, beside: Commands, began: float) -> None:
        """Wait until all calls are drained. Raises RuntimeError if nothing happens for long."""
        wait_until(lambda: len(effects) > 0, effects, workers)
        groups = {"workers": workers.processes, "beside": beside.processes} | {
            name: [process] for name, process in self.services.items()
        }
        since, all_before = time.monotonic(), busy()
        before, counted_before = {name: cpu(group) for name, group in groups.items()}, len(effects)
        wait_until(lambda: len(effects) > self.tasks, effects, workers)
        after, counted_after = {name: cpu(group) for name, group in groups.items()}, len(effects)
        processors = (time.monotonic() - since) * (psutil.cpu_count() or 1)
        elsewhere = busy() - all_before - sum(after.values()) + sum(before.values())
        self.figures.others = max(0.0, 100 * elsewhere / processors)
        thousands = max(1, counted_after - counted_before) / 1000  # a handful may all have begun at the first look
        spent = {name: (after[name] - before[name]) / thousands for name in groups if groups[name]}
        times = [at for _, at in effects.read()]
        self.figures.drained = (len(times) - 1) / (max(times) - min(times))
        self.figures.drained_with_start = len(times) / (max(times) - began)
        self.figures.cpu_workers, self.figures.cpu_beside = spent["workers"], spent.get("beside")
        self.figures.cpu_postgres, self.figures.cpu_redis = spent["postgres"], spent["redis"]
        self.figures.memory = memory(workers.processes)
        self.save()

    def offer(self, rate: float, workers: Commands) -> Offered:
        """Make ``rate`` calls a second, and wait for their starts."""
        effects, committed = Effects(), {}
        numbers = self.numbers(min(MOST_CALLS, max(2, round(rate * self.seconds))))
        began = time.monotonic()
        for count, number in enumerate(numbers):
            time.sleep(max(0.0, began + count / rate - time.monotonic()))
            committed[number] = self.peer.calls.committed(number, PAYLOAD)
        called = time.monotonic()
        while missing := counted((number for number, _ in effects.read()), numbers)[0]:
            workers.check()
            if time.monotonic() > called + LATE:
                break
            time.sleep(0.05)
        starts: dict[int, float] = {}
        for number, at in effects.read():
            starts[number] = min(at, starts.get(number, at))
        return offered(rate, began, called, committed, starts, missing)

    def latencies(self, workers: Commands) -> None:
        idle = begun(self.offer(IDLE_RATE, workers))
        self.figures.idle_p50, self.figures.idle_p99 = idle.p50, idle.p99
        self.save()

    def latencies_under_load(self, workers: Commands, rates: Iterable[float]) -> None:
        """Offer half of what was drained, then the rates, up to the first that the queue does not keep up with."""
        assert self.figures.drained is not None
        half = begun(self.offer(self.figures.drained / 2, workers))
        self.figures.half_rate, self.figures.half_p50, self.figures.half_p99 = half.reached, half.p50, half.p99
        self.save()
        for rate in rates:
            self.figures.curve.append(self.offer(rate, workers))
            self.save()
            if not self.figures.curve[-1].kept:
                break

    def kills(self, numbers: range, effects: Effects, workers: Commands, kills: int, settle: float) -> None:
        """Kill workers at even steps of the work, then wait until nothing happens any more."""
        done = 0
        for kill in range(kills):
            enough = len(numbers) * (kill + 1) // (kills + 1)
            try:
                wait_until(lambda enough=enough: len(effects) >= enough, effects, None)
            except RuntimeError:  # the remaining tasks wait for longer than this does, so no worker is busy
                break
            workers.kill_and_restart(kill)
            done += 1
        began = quiet_since = time.monotonic()
        seen = -1
        while time.monotonic() < min(quiet_since + settle, began + LONGEST):
            if len(effects) != seen:
                quiet_since, seen = time.monotonic(), len(effects)
            time.sleep(0.1)
        self.figures.kills = done
        self.figures.not_done, self.figures.doubled = counted((number for number, _ in effects.read()), numbers)
        self.save()
        workers.check()  # a worker that ended by itself makes the result invalid


def wait_until(condition: Callable[[], bool], effects: Effects, workers: Commands | None) -> None:
    """Wait for the condition. Raises RuntimeError if there is no effect for long or a worker has ended by itself."""
    at, seen = time.monotonic(), -1
    while not condition():
        if workers is not None:
            workers.check()
        if len(effects) != seen:
            at, seen = time.monotonic(), len(effects)
        if time.monotonic() > at + STUCK:
            raise RuntimeError(f"no effect for {STUCK:.0f} s after {seen}: {workers.tail() if workers else ''}")
        time.sleep(0.01)


def offered(
    rate: float, began: float, called: float, committed: dict[int, float], starts: dict[int, float], missing: int
) -> Offered:
    """Return what came of calls at a rate. The numbers of ``committed`` were called from ``began`` to ``called``.

    The rate that was reached counts to the last call or to the last start, whichever is later.
    """
    waits = [(at - committed[number]) * 1000 for number, at in starts.items() if number in committed]
    last = max([called, *(at for number, at in starts.items() if number in committed)])
    reached = max(0, len(waits) - 1) / (last - began)
    if not waits:
        return Offered(rate, reached, missing=missing)
    return Offered(rate, reached, percentile(waits, 0.5), percentile(waits, 0.99), missing)


def begun(one: Offered) -> Offered:
    """Raises RuntimeError if calls did not begin."""
    if one.missing:
        raise RuntimeError(f"{one.missing} calls at {one.rate:.0f}/s had not begun {LATE:.0f} s later")
    return one


def measure(name: str, file: Path, options: argparse.Namespace) -> None:
    import django
    from django.core.management import call_command

    django.setup()
    peer: Peer = importlib.import_module(f"bench.peers.{name}").PEER
    call_command("migrate", verbosity=0)
    if peer.prepare is not None:
        peer.prepare()
    services = {"postgres": psutil.Process(options.postgres), "redis": psutil.Process(options.redis)}
    run = Run(peer, file, options.tasks, options.seconds, services)
    log = file.with_suffix("")
    with Commands(peer.beside, Path(f"{log}.beside.log")) as beside:
        beside.log.touch()
        beside.wait_for(peer.beside_ready)
        effects = Effects()
        run.enqueue()
        began = time.monotonic()
        with Commands(peer.workers, Path(f"{log}.workers.log")) as workers:
            run.drain(effects, workers, beside, began)
            run.latencies(workers)
            if not options.short:
                run.latencies_under_load(workers, options.rates)
        effects = Effects()
        numbers = run.enqueue_many()
        if options.short:
            return
        with Commands(peer.workers, Path(f"{log}.killed.log")) as workers:
            run.kills(numbers, effects, workers, options.kills, options.settle)


def rates(text: str) -> list[float]:
    """Return the rates of "50,100". Raises ValueError."""
    found = [float(rate) for rate in text.split(",") if rate]
    if not all(0 < rate < math.inf for rate in found):
        raise ValueError(text)
    return found


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("file", type=Path)
    for option in ("tasks", "kills", "postgres", "redis"):
        parser.add_argument(f"--{option}", type=int, required=True)
    for option in ("seconds", "settle"):
        parser.add_argument(f"--{option}", type=float, required=True)
    parser.add_argument("--rates", type=rates, default=[])
    parser.add_argument("--short", action="store_true", help="enqueue, drain and idle only")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    measure(options.name, options.file, options)


if __name__ == "__main__":
    main()
