"""What is written into Redis by hand: messages that are none, or of another run, and keys of another type."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.odd.book import Case, Record
from tests.odd.kinds import Expected, Kind, kind
from tests.odd.values import json_values

BROKEN_QUEUE = "reports"
"""Nothing else but plain calls is on it, so that their wait can be told from others'."""


def message(headers: Any, body: Any = None, **more: Any) -> str:
    """As kombu writes it, with what the caller changes of it."""
    text = body if isinstance(body, str) else json.dumps([[], {}, {}] if body is None else body)
    return json.dumps(
        {
            "body": base64.b64encode(text.encode()).decode(), "content-encoding": "utf-8",
            "content-type": "application/json", "headers": headers,
            "properties": {
                "delivery_tag": str(uuid.uuid4()), "body_encoding": "base64", "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "default"},
            },
        }
        | more
    )  # fmt: skip


def headers(**more: Any) -> dict[str, Any]:
    return {
        "id": "by-hand",
        "task": "odd.step",
        "lang": "py",
        "root_id": "by-hand",
        "argsrepr": "",
        "kwargsrepr": "",
    } | more


def run_header(**more: Any) -> dict[str, Any]:
    return headers(
        taskrun={"id": str(uuid.uuid4()), "attempt": 0, "priority": 0, "due": time.time(), "eta": None} | more
    )


NAN = float("nan")
MESSAGES: dict[str, Callable[[], str | bytes]] = {
    "empty": lambda: "", "no JSON": lambda: "\x00 half a mess", "bytes": lambda: b"\xff\xfe\x00",
    "null": lambda: "null",
    "number": lambda: "5", "list": lambda: '["not", "a", "message"]', "half": lambda: message(headers())[:80],
    "deep list": lambda: "[" * 100_000, "deep closed": lambda: "[" * 5000 + "]" * 5000,
    "deep headers": lambda: (
        f'{{"headers": {"[" * 3000}{"]" * 3000}, "body": "", "properties": {{"delivery_tag": "a"}}}}'
    ),
    "deep header": lambda: message(headers(odd="DEEP")).replace('"DEEP"', "[" * 900 + "]" * 900),
    "deep body": lambda: message(headers(), "[[" + "[" * 3000 + "]" * 3000 + "], {}, {}]"),
    "bomb": lambda: message(headers(), "[" * 100_000), "big": lambda: message(headers(odd="x" * 500_000)),
    "no headers": lambda: message({}), "list headers": lambda: message([1]), "text headers": lambda: message("text"),
    "null headers": lambda: message(None), "no id": lambda: message({"task": "odd.step"}),
    "number task": lambda: message(headers(task=5)), "null task": lambda: message(headers(task=None)),
    "list task": lambda: message(headers(task=["odd.step"])), "unknown task": lambda: message(headers(task="no.such")),
    "surrogate task": lambda: message(headers(task="\ud83d")), "nul task": lambda: message(headers(task="a\x00")),
    "number id": lambda: message(headers(id=5)), "list id": lambda: message(headers(id=[1])),
    "nul id": lambda: message(headers(id="a\x00")), "surrogate id": lambda: message(headers(id="\ud83d")),
    "long id": lambda: message(headers(id="x" * 100_000)), "null id": lambda: message(headers(id=None)),
    "eta word": lambda: message(headers(eta="tomorrow")), "eta number": lambda: message(headers(eta=5)),
    "eta 9999": lambda: message(headers(eta="9999-12-31T23:59:59+00:00")),
    "expires word": lambda: message(headers(expires="soon")), "expires list": lambda: message(headers(expires=[1])),
    "limits word": lambda: message(headers(timelimit="long")), "limits one": lambda: message(headers(timelimit=[1])),
    "limits nan": lambda: message(headers(timelimit=[NAN, NAN])),
    "limits -1": lambda: message(headers(timelimit=[-1, -1])),
    "limits huge": lambda: message(headers(timelimit=[10**30, 10**20])), "utc": lambda: message(headers(utc="yes")),
    "retries word": lambda: message(headers(retries="many")), "group list": lambda: message(headers(group=[1])),
    "group": lambda: message(headers(group="no-such-group")),
    "stamps": lambda: message(headers(stamps=5, stamped_headers=5)),
    "body number": lambda: message(headers(), 5), "body short": lambda: message(headers(), [[]]),
    "body text": lambda: message(headers(), "text"), "body args": lambda: message(headers(), [5, 5, 5]),
    "body empty": lambda: message(headers(), ""), "body object": lambda: message(headers(), {"args": []}),
    "embed list": lambda: message(headers(), [[], {}, []]),
    "embed odd": lambda: message(headers(), [[], {}, {"callbacks": 5}]),
    "callbacks": lambda: message(headers(), [[], {}, {"callbacks": ["text"], "errbacks": [5], "chain": 5, "chord": 5}]),
    "tagged": lambda: message(headers(), [[{"__type__": "money", "__value__": "1.50"}], {}, {}]),
    "no base64": lambda: message(headers(), body="***"), "body of bytes": lambda: message(headers(), body="/w=="),
    "pickle": lambda: message(headers(), **{"content-type": "application/x-python-serialize"}),
    "yaml": lambda: message(headers(), **{"content-type": "application/x-yaml"}),
    "type number": lambda: message(headers(), **{"content-type": 5}),
    "encoding": lambda: message(headers(), **{"content-encoding": "rot13"}),
    "encoding number": lambda: message(headers(), **{"content-encoding": 5}),
    "utf-16": lambda: message(headers(), **{"content-encoding": "utf-16"}),
    "no properties": lambda: message(headers(), properties={}),
    "null properties": lambda: message(headers(), properties=None),
    "tag list": lambda: message(headers(), properties={"delivery_tag": [1], "body_encoding": "base64"}),
    "info text": lambda: message(
        headers(), properties={"delivery_tag": "a", "body_encoding": "base64", "delivery_info": "x"}
    ),
    "priority": lambda: message(
        headers(), properties={
            "delivery_tag": "a", "body_encoding": "base64", "priority": "first",
            "delivery_info": {"routing_key": 5, "exchange": None},
        }
    ),
    "run unknown": lambda: message(run_header()), "run no id": lambda: message(headers(taskrun={})),
    "run id word": lambda: message(run_header(id="no-uuid")), "run id number": lambda: message(run_header(id=5)),
    "run id nul": lambda: message(run_header(id="\x00")), "run list": lambda: message(headers(taskrun=[1])),
    "run text": lambda: message(headers(taskrun="text")), "run null": lambda: message(headers(taskrun=None)),
    "run bare": lambda: message(headers(taskrun={"id": str(uuid.uuid4())})),
    "run attempt word": lambda: message(run_header(attempt="first")),
    "run due word": lambda: message(run_header(due="now")),
    "run attempt huge": lambda: message(run_header(attempt=2**40)), "run due nan": lambda: message(run_header(due=NAN)),
    "run unknown task": lambda: message(run_header() | {"task": "no.such"}),
    "run id no-uuid unknown task": lambda: message(run_header(id="no-uuid") | {"task": "no.such"}),
    "run deep": lambda: message(run_header(odd="DEEP")).replace('"DEEP"', "[" * 900 + "]" * 900),
    "run tagged": lambda: message(run_header(), [[{"__type__": "money", "__value__": "1.50"}], {}, {}]),
    "run eta": lambda: message(run_header(eta="tomorrow")),
    "run claim": lambda: message(run_header(claim="x", worker="y")),
    "protocol 1": lambda: message({}, {"task": "odd.step", "id": "old", "args": [], "kwargs": {}}),
    "protocol 1 odd": lambda: message({}, {"task": "odd.step", "id": None, "args": 5, "kwargs": []}),
}  # fmt: skip


def _push(queue: str, *items: str | bytes) -> None:
    from pressroom.enqueue.broker import broker_client, prefixed

    broker_client(socket_timeout=10.0).lpush(prefixed(queue), *items)


@kind
class Messages(Kind):
    """Kept as undeliverable, dropped, or run where they are a plain Celery's."""

    name = "message"
    weight = 20
    strategy = st.sampled_from(sorted(MESSAGES))

    def call(self, case: Case, record: Record) -> None:
        _push(case.queue, MESSAGES[case.drawn]())


@kind
class DrawnMessages(Kind):
    """Any JSON in the place of any part."""

    name = "message-drawn"
    weight = 10
    strategy = st.tuples(
        st.sampled_from(
            ["headers", "body", "properties", "content-type", "content-encoding", "header id", "header task",
             "header eta", "header timelimit", "header taskrun", "header group", "header root_id", "arguments"]
        ),
        json_values,
    ).map(list)  # fmt: skip

    def call(self, case: Case, record: Record) -> None:
        part, value = case.drawn
        if part == "arguments":
            _push(case.queue, message(headers(), value))
        elif part.startswith("header "):
            _push(case.queue, message(headers(**{part.removeprefix("header "): value})))
        else:
            _push(case.queue, message(headers(), **{part: value}))


@kind
class OthersRun(Kind):
    """A message that names a real run, of another task, twice, with another's body; the run itself is done once."""

    name = "message-of-a-run"
    weight = 8
    strategy = st.tuples(
        st.sampled_from(["twice", "other task", "other body", "bad body", "no task", "attempt", "other queue", "deep"]),
        st.integers(1, 3),
    ).map(list)

    def call(self, case: Case, record: Record) -> None:
        from pressroom.models import TaskRun
        from tests.odd.tasks.basic import take

        how, times = case.drawn
        result = take.apply_async([case.call], queue=case.queue, countdown=0.1)
        run = str(TaskRun.of(result).pk)
        own = {"id": result.id, "task": "odd.take", "root_id": result.id}
        header, body, queue = run_header(id=run) | own, [[case.call], {}, {}], case.queue
        if how == "other task":
            header["task"] = "odd.step"
        elif how == "no task":
            header["task"] = "no.such.task"
        elif how == "other body":
            body = [[case.call, "another's"], {}, {}]
        elif how == "bad body":
            body = [5]
        elif how == "attempt":
            header["taskrun"]["attempt"] = 7
        elif how == "other queue":
            queue = "emails" if queue == "default" else "default"
        text = message(header, body)
        if how == "deep":
            text = message(header, "[[" + "[" * 3000 + "]" * 3000 + "], {}, {}]")
        _push(queue, *[text] * times)

    def expected(self, case: Case) -> Expected:
        # What is written there is believed: who may write into Redis may say what a task is called with.
        ends = ("succeeded",) if case.drawn[0] in ("twice", "attempt", "other queue") else ("succeeded", "dead")
        return Expected(ends, r"\w", refused=False, effect=case.drawn[0] in ("twice", "attempt", "other queue"))


TYPES = ["string", "hash", "set", "zset", "stream"]


@kind
class OtherType(Kind):
    """For a moment there is no list at the queue's key: it waits, the other queues go on."""

    name = "wrong-type"
    weight = 1
    strategy = st.tuples(st.sampled_from(TYPES), st.sampled_from([0.2, 1.0])).map(list)

    def call(self, case: Case, record: Record) -> None:
        from pressroom.enqueue.broker import broker_client, prefixed
        from tests.odd.caller import plain_call

        which, seconds = case.drawn
        client, key = broker_client(socket_timeout=10.0), prefixed(BROKEN_QUEUE)
        client.delete(key)
        {
            "string": lambda: client.set(key, "a"), "hash": lambda: client.hset(key, "a", "b"),
            "set": lambda: client.sadd(key, "a"), "zset": lambda: client.zadd(key, {"a": 1}),
            "stream": lambda: client.xadd(key, {"a": "b"}),
        }[which]()  # fmt: skip
        try:
            plain_call(case.call, "meanwhile", BROKEN_QUEUE)
            time.sleep(seconds)
        finally:
            client.delete(key)
