"""The edge at which values from outside enter the ledger: the checks of a call, made before anything is stored.

They refuse what is sure to fail later in Postgres, in Redis or in a worker, and say why.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import models
from django.utils.dateparse import parse_datetime
from kombu.exceptions import EncodeError
from kombu.utils.json import JSONEncoder, loads

from pressroom.enqueue.envelope import HEADER
from pressroom.text import MOST_DEPTH, carried, is_carried, is_deeper_than

LONGEST_ID = 255
"""Characters of a task id: as many as Celery's other result backends keep."""
PRIORITIES = range(-100, 256)
"""Celery has 0, the default, as the first on Redis. The negative ones go before: Django's Tasks have them."""
DAY = 86400
FARTHEST = 100 * 365 * DAY
"""Seconds from now until the latest time at which a task may be due or expire."""
IDS = ("id", "root_id", "parent_id", "group", "shadow", "task")
"""Celery's headers that a caller may choose. Each is a text or None."""
_ENCODER = JSONEncoder()
"""The encoder that kombu's ``dumps`` would make for each value."""


def encoded(name: str, value: Any) -> str:
    """Return ``value``, a part of a call or a result of the task ``name``, as JSON text.

    This is kombu's JSON, which has dates, decimals, UUIDs and lazy texts. Raises EncodeError for a value that has no
    JSON form (such as a model instance), is nested too deeply, is too large or could not be read again.
    """
    try:
        text = _ENCODER.encode(value)
        if '"__type__"' in text:
            # kombu would try to make an object of it when a worker reads it.
            loads(text)
    except Exception as error:
        culprit = _model_instance_in(value)
        if culprit is not None:
            raise EncodeError(
                f"{name}: {carried(culprit)} cannot be stored as JSON: pass its id ({culprit.pk!r}) and fetch it in "
                "the task"
            ) from error
        raise EncodeError(f"{name}: the value cannot be stored as JSON: {_why(error)}") from error
    if is_deeper_than(text, MOST_DEPTH):
        raise EncodeError(f"{name}: lists and dictionaries are nested more than {MOST_DEPTH} levels deep")
    check_size(name, text)
    return text


def check_size(name: str, *texts: str) -> None:
    """Raises EncodeError if the texts together are longer than a message may be."""
    size = sum(map(len, texts))
    if size > settings.TASKRUNS_MAX_MESSAGE:
        raise EncodeError(
            f"{name}: {size} bytes are more than the {settings.TASKRUNS_MAX_MESSAGE} of TASKRUNS_MAX_MESSAGE: "
            "store them elsewhere and pass a reference"
        )


def _why(error: Exception) -> str:
    return "it is nested too deeply, or contains itself" if isinstance(error, RecursionError) else carried(error)


def _model_instance_in(value: Any) -> models.Model | None:
    """Return the first model instance found. A container that contains itself is searched once."""
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
    """Return the headers that the caller added. Raises TypeError or ValueError if one would replace one of Celery's.

    A retry passes the headers of the message that it retries. The ledger's own header among them is left out.
    """
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise TypeError(f"{name}: headers must be a dictionary, not {given!r:.200}")
    added = {header: value for header, value in given.items() if header != HEADER}
    for header, value in added.items():
        if not isinstance(header, str):
            raise TypeError(f"{name}: the name of a header must be text, not {header!r}")
        # As they come from JSON, because users' objects may raise anything when they are compared.
        if header in headers and json.loads(encoded(name, headers[header])) != json.loads(encoded(name, value)):
            raise ValueError(f"{name}: the header {header!r} belongs to Celery and cannot be set")
    return added


def check_stamps(name: str, options: dict[str, Any]) -> None:
    """Raises ValueError if the call lacks a header that ``stamped_headers`` names."""
    missing = [header for header in options.get("stamped_headers") or () if header not in options]
    if missing:
        raise ValueError(f"{name}: stamped_headers names headers that the call does not have: {missing!r:.200}")


def check_headers(name: str, headers: dict[str, Any]) -> None:
    """Raises TypeError or ValueError if a header that the caller may choose is not what a worker expects."""
    for header in IDS:
        if headers[header] is not None:
            _check_id(name, header, headers[header])
    for header in ("id", "task"):
        if not headers[header]:
            raise ValueError(f"{name}: the header {header!r} must not be empty")
    if type(headers["retries"]) is not int or headers["retries"] < 0:
        raise ValueError(f"{name}: retries={headers['retries']!r} is not a whole number, 0 or more")
    check_time_limits(name, headers["timelimit"])


def is_id(value: Any) -> bool:
    """Return whether a call may have this id."""
    if not isinstance(value, str):
        # Do not format it for an error: its repr may raise.
        return False
    try:
        _check_id("", "id", value)
    except ValueError:
        return False
    return True


def _check_id(name: str, header: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name}: {header} must be text, not {value!r}")
    if len(value) > LONGEST_ID:
        raise ValueError(f"{name}: {header} has {len(value)} characters; {LONGEST_ID} are allowed")
    if not is_carried(value):
        raise ValueError(
            f"{name}: {header} {carried(value)!r} has characters that Postgres cannot store or pages cannot show"
        )


def check_priority(name: str, priority: Any) -> int:
    """Return the priority, or 0 for None. Raises ValueError."""
    if priority is None:
        return 0
    if not isinstance(priority, int) or priority not in PRIORITIES:
        raise ValueError(
            f"{name}: priority={priority!r} is not a whole number from {PRIORITIES[0]} (first) to "
            f"{PRIORITIES[-1]} (last)"
        )
    return int(priority)


def check_time_limits(name: str, limits: Any) -> None:
    """Check the pair of hard and soft limit. Raises ValueError unless each is None or a number of seconds."""
    hard, soft = limits
    for option, limit in (("time_limit", hard), ("soft_time_limit", soft)):
        if limit is not None and not (_is_number(limit) and 0 <= limit <= FARTHEST):
            raise ValueError(f"{name}: {option}={limit!r} is not a number of seconds within a hundred years")


def check_seconds(name: str, option: str, seconds: Any) -> None:
    """Raises ValueError unless ``seconds`` is a number of seconds from now within a hundred years."""
    if not _is_number(seconds) or not abs(seconds) <= FARTHEST:
        raise ValueError(f"{name}: {option}={seconds!r} is not a number of seconds within a hundred years")


def check_times(name: str, countdown: Any, eta: Any, expires: Any) -> dict[str, datetime.datetime]:
    """Check the times of a call before Celery calculates with them. Raises TypeError or ValueError.

    Returns ``eta`` and ``expires``, if more than a day ago, as a day ago: Celery cannot calculate with the earliest of
    times.
    """
    if countdown is not None:
        check_seconds(name, "countdown", countdown)
    if isinstance(expires, int | float):
        check_seconds(name, "expires", expires)
        expires = None
    moments = {option: _moment(name, option, value) for option, value in (("expires", expires), ("eta", eta))
               if value is not None}  # fmt: skip
    return {option: at for option, (at, is_past) in moments.items() if is_past}


def moment(name: str, option: str, value: Any) -> datetime.datetime | None:
    """Return a time, or a text in ISO 8601, as an aware datetime. Without a zone it is taken as UTC.

    A time more than a day ago becomes a day ago. Raises TypeError or ValueError.
    """
    return None if value is None else _moment(name, option, value)[0]


def _moment(name: str, option: str, given: Any) -> tuple[datetime.datetime, bool]:
    """Return `moment`'s time, and whether it stands for one before it."""
    value = given
    if isinstance(value, str):
        value = parse_datetime(value)
    if not isinstance(value, datetime.datetime):
        error = ValueError if isinstance(given, str) else TypeError
        raise error(f"{name}: {option}={given!r} is not a time in ISO 8601")
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    now = datetime.datetime.now(datetime.UTC)
    try:
        seconds = (value - now).total_seconds()
    except OverflowError:  # its zone moves it beyond the years that datetime has
        seconds = math.inf if value.year > now.year else -math.inf
    if seconds > FARTHEST:
        raise ValueError(f"{name}: {option}={given!r} is more than a hundred years away")
    return (value, False) if seconds > -DAY else (now - datetime.timedelta(seconds=DAY), True)


def _is_number(value: Any) -> bool:
    # A whole number may be too long for a float.
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def check_signatures(name: str, embed: dict[str, Any]) -> None:
    """Check the callbacks, errbacks, chain and chord of a call, which would otherwise fail only when they are called.

    Raises TypeError or ValueError. Call it with an ``embed`` that was encoded: it cannot contain itself.
    """
    for role in ("callbacks", "errbacks", "chain"):
        for signature in _listed(embed.get(role)):
            _check_signature(f"{name}: in its {role},", signature)
    if embed.get("chord") is not None:
        _check_signature(f"{name}: in its chord,", embed["chord"])


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_signature(name: str, signature: Any) -> None:
    kinds = {"task": str, "args": list | tuple, "kwargs": dict, "options": dict}
    if not isinstance(signature, dict) or not all(isinstance(signature.get(key), kinds[key]) for key in kinds):
        raise TypeError(f"{name} {signature!r:.200} is not the signature of a task")
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
