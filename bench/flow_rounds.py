"""Beside `bench.flow`: makes and drains calls with the code of one checkout, a round for each line that it reads.

``PYTHONPATH=<checkout> python flow_rounds.py <tasks>`` writes ``ready``, and for each line one with JSON: what a task
cost in each phase, as microseconds of this process's CPU and of its Postgres session's CPU. It uses
nothing that the code of before did not have.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import django

TASK = "app.blog.tasks.reindex_post"
WINDOW = 400


class Rounds:
    """One session, which makes all statements of a task's life as the site, the relay and a worker would."""

    def __init__(self, tasks: int) -> None:
        from django.db import connection

        from app.celery import app
        from pressroom.sql import workers

        self._tasks = tasks
        app.loader.import_default_modules()
        self._task = app.tasks[TASK]
        self._worker = workers.register("bench@here", '["default"]', 1)
        self._cursor = connection.cursor()
        self._cursor.execute("SET synchronous_commit = off")
        session = connection.connection.info.backend_pid
        self._schedstat = Path(f"/proc/{session}/schedstat")
        # Where the kernel happens to place the two decides what each wake-up costs, for as long as they live.
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, processors[:1])
        os.sched_setaffinity(session, processors[-1:])

    def round(self) -> dict[str, list[float]]:
        """Call, and drain by messages; call again, and drain by exchanges."""
        self._cursor.execute("VACUUM ANALYZE taskruns_liverun")
        first = self._phase(self._call)
        by_message = self._phase(self._by_message)
        second = self._phase(self._call)
        by_exchange = self._phase(self._by_exchange)
        call = [(one + other) / 2 for one, other in zip(first, second, strict=True)]
        return {"call": call, "drain by message": by_message, "drain by exchange": by_exchange}

    def _phase(self, work: Callable[[], Any]) -> list[float]:
        own, server = time.process_time(), self._server()
        work()
        found = (time.process_time() - own, self._server() - server)
        return [seconds / self._tasks * 1e6 for seconds in found]

    def _server(self) -> float:
        # The seconds of the session. The counters that `ps` reads have a step of ten milliseconds.
        return int(self._schedstat.read_text().split()[0]) / 1e9

    def _call(self) -> None:
        for number in range(self._tasks):
            self._task.delay(number)

    def _by_message(self) -> None:
        from pressroom.sql import dispatch, ends, runs

        done = 0
        while taken := dispatch.take_due({"default": WINDOW}):
            for row in taken:
                claim = runs.claim(row.run_id, uuid.uuid4(), self._worker)
                assert claim is not None
                assert ends.succeed(claim, "null")
            done += len(taken)
        assert done == self._tasks, done

    def _by_exchange(self) -> None:
        from pressroom.sql import backlog, dispatch, ends, runs

        [row] = dispatch.take_due({"default": 1})
        limits = re.search(r'"timelimit": \[[^]]*\]', row.headers)
        claim = runs.claim(row.run_id, uuid.uuid4(), self._worker)
        assert claim is not None
        assert limits is not None
        assert ends.succeed(claim, "null")
        done, ended = 1, []
        # The code before reads the queue and the priority from the run of the claim.
        of_queue = "queue" in inspect.signature(backlog.finish_and_claim).parameters
        first: list[Any] = [claim.token, self._worker, "default", 0] if of_queue else [claim, self._worker]
        exchange = partial(backlog.finish_and_claim, *first)
        while True:
            _, taken = exchange(ended, [TASK], [], limits[0], 1)
            done += len(ended)
            if not taken:
                break
            ended = [backlog.SuccessToWrite(taken[0].claim, "null", None, 0.001, 0.0)]
        assert done == self._tasks, done


def main(tasks: int) -> None:
    django.setup()
    from django.core.management import call_command

    import pressroom

    assert str(pressroom.__file__).startswith(os.environ["PYTHONPATH"]), pressroom.__file__
    call_command("migrate", verbosity=0)
    rounds = Rounds(tasks)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(rounds.round()), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
