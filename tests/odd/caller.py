"""``python -m tests.odd.caller FOLDER``: a process that calls, as a web process does.

It is told what to do a line at a time, ``odd FROM TO`` or ``alone NAME COUNT``, and says ``done`` after each.
"""

from __future__ import annotations

import sys
import time
import traceback
from typing import Any

from tests.odd.book import REFUSED, Book, Case, Plain, Record
from tests.odd.kinds import KINDS, Kind, load
from tests.support.notes import note

LONGEST_BACKLOG, PATIENCE = 12, 3.0
"""Due runs that wait: with more the caller waits in its turn, but no longer than so many seconds."""
_noted: list[Plain] = []
_beside = True


def plain_call(call: str, part: str, queue: str) -> None:
    """A plain call; noted as acknowledged once its transaction is committed."""
    from django.db import transaction

    from tests.odd.tasks.basic import plain

    result = plain.apply_async([call, part], queue=queue)
    entry = Plain(call, part, queue, _beside, 0.0, result.id)
    transaction.on_commit(lambda: _noted.append(entry))


def write_noted(book: Book) -> None:
    """With the time by which the caller knows of it."""
    now = time.time()
    while _noted:
        entry = _noted.pop()
        entry.at = now
        book.write("plain", entry)


class Caller:
    def __init__(self, folder: str) -> None:
        self.book = Book(folder)
        self.published: list[str] = []
        self.room = LONGEST_BACKLOG

    def listen(self) -> None:
        from celery.signals import after_task_publish

        def published(headers: dict[str, Any], **_: Any) -> None:
            if headers.get("task") != "odd.plain":
                self.published.append(headers.get("id") if isinstance(headers.get("id"), str) else "")

        after_task_publish.connect(published, weak=False)

    def make(self, case: Case) -> None:
        """One odd call with a plain one before and after it, and the record of it."""
        note(f"{self.book.folder}/begun", str(case.number))
        self.published.clear()
        record = Record(case.number, "accepted")
        begun = time.monotonic()
        kind = KINDS[case.kind]
        try:
            getattr(self, case.mode.replace(" ", "_"))(kind, case, record)
        except Exception as error:
            record.outcome = "broke"
            _describe(record, error)
            from django.db import connection

            connection.close()
            _noted.clear()
        record.seconds = time.monotonic() - begun
        record.ids = list(self.published)
        write_noted(self.book)
        self.book.write("records", record)

    def outside(self, kind: Kind, case: Case, record: Record) -> None:
        plain_call(case.call, "before", case.queue)
        self._odd(kind, case, record)
        plain_call(case.call, "after", case.queue)

    def inside(self, kind: Kind, case: Case, record: Record) -> None:
        """Held back together: what is refused takes nothing else along."""
        from django.db import transaction

        from tests.odd.tasks.basic import effect

        with transaction.atomic():
            effect(case.call, "work")
            plain_call(case.call, "before", case.queue)
            self._odd(kind, case, record)
            plain_call(case.call, "after", case.queue)

    def on_commit(self, kind: Kind, case: Case, record: Record) -> None:
        from django.db import transaction

        from tests.odd.tasks.basic import effect

        with transaction.atomic():
            effect(case.call, "work")
            plain_call(case.call, "before", case.queue)
            transaction.on_commit(lambda: self._odd(kind, case, record))
            plain_call(case.call, "after", case.queue)

    def _odd(self, kind: Kind, case: Case, record: Record) -> None:
        try:
            kind.call(case, record)
        except Exception as error:
            record.outcome = "refused"
            _describe(record, error)
            refused = (*REFUSED, *kind.also_refused)
            if not set(refused) & set(record.error):
                record.notes.append(f"not refused as a call is:\n{traceback.format_exc()[-3000:]}")

    def wait_for_room(self) -> None:
        """Until what is due and waits is little: otherwise plain calls would wait for each other."""
        from django.db import connection

        deadline = time.monotonic() + PATIENCE
        while True:
            with connection.cursor() as cursor:
                cursor.execute(
                    """
                    SELECT count(*) FROM taskruns_taskrun
                    WHERE status IN ('queued', 'retrying') AND queue IN ('default', 'emails')
                      AND run_at BETWEEN clock_timestamp() - interval '10 s' AND clock_timestamp()
                    """
                )
                count = cursor.fetchone()[0]
            if count <= self.room:
                self.room = max(LONGEST_BACKLOG, self.room - 1)
                return
            if time.monotonic() > deadline:
                # They do not move: only what comes on top of them is waited for.
                self.room = count + LONGEST_BACKLOG
                return
            time.sleep(0.02)


def _describe(record: Record, error: BaseException) -> None:
    record.error = [cls.__name__ for cls in type(error).__mro__]
    try:
        record.text = str(error)[:2000]
    except Exception:
        record.text = "<no text>"


def main(folder: str) -> None:
    """Serve until the input ends."""
    global _beside  # noqa: PLW0603 - one process, one caller
    import django

    django.setup()
    import app.celery  # noqa: F401
    import tests.odd.tasks  # noqa: F401
    from tests.odd.cases import QUEUES

    load()
    caller = Caller(folder)
    # Not drawn again: what hypothesis draws depends on the modules that a process has imported.
    all_cases = caller.book.cases()
    caller.listen()
    print("ready", flush=True)
    for line in sys.stdin:
        what, *given = line.split()
        _beside = what == "odd"
        if what == "odd":
            for case in all_cases[int(given[0]) : int(given[1]) : int(given[2])]:
                caller.make(case)
                caller.wait_for_room()
        else:
            for number in range(int(given[1])):
                for part in ("before", "after"):
                    plain_call(f"{given[0]}-{number}", part, QUEUES[number % len(QUEUES)])
                write_noted(caller.book)
                caller.wait_for_room()
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
