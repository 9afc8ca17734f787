"""The edge at which values from outside enter the ledger: what a call is given is checked before anything is stored.

What is sure to fail later, in Postgres, in Redis or in a worker, is refused at the call, which says why.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import models
from django.utils.dateparse import parse_datetime
from kombu.exceptions import EncodeError
from kombu.utils.json import dumps, loads

from pressroom.enqueue.envelope import HEADER
from pressroom.text import MOST_DEPTH, carried, is_carried, is_deeper_than

LONGEST_ID = 255
"""Characters of a task id: as much as other result backends of Celery keep."""
PRIORITIES = range(256)
DAY = 86400
FARTHEST = 100 * 365 * DAY
"""Seconds: no task is due, and none expires, after a longer time."""
IDS = ("id", "root_id", "parent_id", "group", "shadow", "task")
"""Headers of Celery's that a caller may choose: text, or None."""


def encoded(name: str, value: Any) -> str:
    """JSON as kombu writes it (dates, decimals, UUIDs and lazy texts included), of a call or a result of task ``name``.

    Raises EncodeError for what has no JSON form (a model instance above all), is nested too deep or too large, or could
    not be read again.
    """
    try:
        text = str(dumps(value))
        if '"__type__"' in text:
            # kombu makes an object of it when it is read, where it can.
            loads(text)
    except Exception as error:
        culprit = _model_instance_in(value)
        if culprit is not None:
            raise EncodeError(
                f"{name}: {carried(culprit)} is no JSON: pass its id ({culprit.pk!r}) and fetch it in the task"
            ) from error
        raise EncodeError(f"{name}: this is no JSON that a worker can read: {_why(error)}") from error
    if is_deeper_than(text, MOST_DEPTH):
        raise EncodeError(f"{name}: lists and dictionaries are nested more than {MOST_DEPTH} levels deep")
    check_size(name, text)
    return text


def check_size(name: str, *texts: str) -> None:
    """Raises EncodeError where texts are together longer than a message may be."""
    size = sum(map(len, texts))
    if size > settings.TASKRUNS_MAX_MESSAGE:
        raise EncodeError(
            f"{name}: {size} bytes are more than the {settings.TASKRUNS_MAX_MESSAGE} of TASKRUNS_MAX_MESSAGE: "
            "store them, and pass where they are"
        )


def _why(error: Exception) -> str:
    return "it is nested too deep, or holds itself" if isinstance(error, RecursionError) else carried(error)


def _model_instance_in(value: Any) -> models.Model | None:
    """The first one found; what holds itself is looked through once."""
    seen: set[int] = set()
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, models.Model):
            return value
        if isinstance(value, dict | list | tuple | set | frozenset) and id(value) not in seen:
            seen.add(id(value))
            rest.extend(value.values() if isinstance(value, dict) else value)
    return None


def added_headers(name: str, headers: dict[str, Any], given: Any) -> dict[str, Any]:
    """Headers that the caller gave: none may take the place of one of Celery's. Raises TypeError or ValueError.

    A retry is given those of the message that it retries, ours too, which is left out.
    """
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise TypeError(f"{name}: headers are a dictionary, not {given!r:.200}")
    added = {header: value for header, value in given.items() if header != HEADER}
    for header, value in added.items():
        if not isinstance(header, str):
            raise TypeError(f"{name}: the name of a header is text, not {header!r}")
        if header in headers and headers[header] != value:
            raise ValueError(f"{name}: the header {header!r} is Celery's own, and cannot be given")
    return added


def check_stamps(name: str, options: dict[str, Any]) -> None:
    """Each header that is named as a stamp is there. Raises ValueError."""
    missing = [header for header in options.get("stamped_headers") or () if header not in options]
    if missing:
        raise ValueError(f"{name}: stamped_headers names {missing!r:.200}, which the call does not have")


def check_headers(name: str, headers: dict[str, Any]) -> None:
    """Those of Celery's own that a caller may choose are what a worker expects. Raises TypeError or ValueError."""
    for header in IDS:
        if headers[header] is not None:
            _check_id(name, header, headers[header])
    for header in ("id", "task"):
        if not headers[header]:
            raise ValueError(f"{name}: a call without {header!r}")
    if type(headers["retries"]) is not int or headers["retries"] < 0:
        raise ValueError(f"{name}: retries={headers['retries']!r} is no count")
    check_time_limits(name, headers["timelimit"])


def _check_id(name: str, header: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name}: {header} is text, not {value!r}")
    if len(value) > LONGEST_ID:
        raise ValueError(f"{name}: {header} has {len(value)} characters, and may have {LONGEST_ID}")
    if not is_carried(value):
        raise ValueError(
            f"{name}: {header} {carried(value)!r} has characters that neither Postgres nor a page can carry"
        )


def check_priority(name: str, priority: Any) -> int:
    """The priority; 0 without one. Raises ValueError."""
    if priority is None:
        return 0
    if not isinstance(priority, int) or priority not in PRIORITIES:
        raise ValueError(f"{name}: priority={priority!r} is no whole number from 0 to {PRIORITIES[-1]}; 0 comes first")
    return int(priority)


def check_time_limits(name: str, limits: Any) -> None:
    """Raises ValueError for what is no pair of seconds above 0, or None."""
    hard, soft = limits
    for option, limit in (("time_limit", hard), ("soft_time_limit", soft)):
        if limit is not None and not (_is_number(limit) and 0 <= limit <= FARTHEST):
            raise ValueError(f"{name}: {option}={limit!r} is no number of seconds")


def check_seconds(name: str, option: str, seconds: Any) -> None:
    """Raises ValueError for what is no number of seconds from now, or lies too far away."""
    if not _is_number(seconds) or not abs(seconds) <= FARTHEST:
        raise ValueError(f"{name}: {option}={seconds!r} is no number of seconds within a hundred years")


def check_times(name: str, countdown: Any, eta: Any, expires: Any) -> None:
    """What a call says of its times, before Celery calculates with it. Raises TypeError or ValueError."""
    if countdown is not None:
        check_seconds(name, "countdown", countdown)
    if isinstance(expires, int | float):
        check_seconds(name, "expires", expires)
    elif expires is not None:
        moment(name, "expires", expires)
    if eta is not None:
        moment(name, "eta", eta)


def moment(name: str, option: str, value: Any) -> datetime.datetime | None:
    """A time, or text in ISO 8601, with its zone (UTC without); one long past is a day past.

    Raises TypeError or ValueError.
    """
    if value is None:
        return None
    given = value
    if isinstance(value, str):
        value = parse_datetime(value)
    if not isinstance(value, datetime.datetime):
        raise (ValueError if isinstance(given, str) else TypeError)(
            f"{name}: {option}={given!r} is no time in ISO 8601"
        )
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    now = datetime.datetime.now(datetime.UTC)
    try:
        seconds = (value - now).total_seconds()
    except OverflowError:  # its zone moves it out of the calendar
        seconds = math.inf if value.year > now.year else -math.inf
    if seconds > FARTHEST:
        raise ValueError(f"{name}: {option}={given!r} is more than a hundred years away")
    return value if seconds > -DAY else now - datetime.timedelta(seconds=DAY)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def check_signatures(name: str, embed: dict[str, Any]) -> None:
    """Callbacks, errbacks, the chain and the chord of a call: each is called later, and would be refused then.

    Raises TypeError or ValueError. To be called with what has been encoded: it holds no circle.
    """
    for role in ("callbacks", "errbacks", "chain"):
        for signature in _listed(embed.get(role)):
            _check_signature(f"{name}: of its {role},", signature)
    if embed.get("chord") is not None:
        _check_signature(f"{name}: its chord,", embed["chord"])


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_signature(name: str, signature: Any) -> None:
    kinds = {"task": str, "args": list | tuple, "kwargs": dict, "options": dict}
    if not isinstance(signature, dict) or not all(isinstance(signature.get(key), kinds[key]) for key in kinds):
        raise TypeError(f"{name} {signature!r:.200} is no signature of a task")
    name = f"{name} {signature['task']}"
    options = signature["options"]
    for header in ("task_id", "root_id", "parent_id", "group_id", "shadow"):
        if options.get(header) is not None:
            _check_id(name, header, options[header])
    check_priority(name, options.get("priority"))
    check_times(name, options.get("countdown"), options.get("eta"), options.get("expires"))
    check_time_limits(name, [options.get("time_limit"), options.get("soft_time_limit")])
    for inner in _signatures_in(signature, options):
        _check_signature(f"{name}:", inner)


def _signatures_in(signature: dict[str, Any], options: dict[str, Any]) -> Iterator[Any]:
    for role in ("link", "link_error", "chain"):
        yield from _listed(options.get(role))
    if options.get("chord") is not None:
        yield options["chord"]
    kind, parts = signature.get("subtask_type"), signature["kwargs"]
    if kind in ("group", "chain"):
        yield from _listed(parts.get("tasks"))
    elif kind == "chord":
        yield from _listed(parts.get("header"))
        if parts.get("body") is not None:
            yield parts["body"]
