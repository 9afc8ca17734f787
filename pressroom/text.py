"""The one place that turns text and JSON into what Postgres, JSON, XML, a terminal and a page can carry, and times into
text for people."""

from __future__ import annotations

import datetime
import math
import re
from typing import Any

from django.utils import timezone

FORMATS = {"second": "%Y-%m-%d %H:%M:%S", "minute": "%Y-%m-%d %H:%M"}
"""How exactly people read a time."""
REPLACEMENT = "\ufffd"
MOST_DEPTH = 200
"""Levels of nested lists and objects. Code that reads or copies more of them may run out of stack."""

# NUL (Postgres), C0 except tab and line ends, U+FFFE and U+FFFF (XML), DEL and C1 (terminals).
# https://www.w3.org/TR/xml/#charsets, https://www.postgresql.org/docs/current/datatype-character.html
_NOT_CARRIED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def carried(value: object) -> str:
    """Return the text of ``value`` with U+FFFD for each character that Postgres, XML or a terminal cannot carry.

    Two halves of a surrogate pair side by side become their character. Never raises.
    """
    text = value if type(value) is str else _text_of(value)
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _NOT_CARRIED.sub(REPLACEMENT, text)


def is_carried(text: str) -> bool:
    """Return whether Postgres, XML and a terminal can carry the text as it is."""
    # Nearly every text is printable ASCII, of which all can. To see that is faster than to search.
    if text.isascii() and text.isprintable():
        return True
    return not (_NOT_CARRIED.search(text) or _SURROGATE.search(text))


def carried_json(value: Any) -> Any:
    """Return JSON data that every reader accepts: strict JSON, valid Unicode, at most MOST_DEPTH levels. Never raises.

    NaN and infinities become null, an object that is not JSON becomes its text, and deeper levels become "…".
    """
    return _carried_json(value, MOST_DEPTH)


def _carried_json(value: Any, levels: int) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, dict | list | tuple) and levels == 0:
        return "…"
    if isinstance(value, dict):
        return {carried(name): _carried_json(item, levels - 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_carried_json(item, levels - 1) for item in value]
    if type(value) is float:
        return value if math.isfinite(value) else None
    return value if type(value) is int else carried(value)


def _text_of(value: object) -> str:
    try:
        # A subclass of str may override methods, so make it a plain str.
        return str.__str__(str(value))
    except Exception as error:  # noqa: BLE001 - a user's class may raise anything in __str__
        return f"<no text: {type(error).__name__} in {type(value).__name__}.__str__>"


def shown(value: object, most: int = 100) -> str:
    """Return ``value`` as code would write it, at most ``most`` characters, for a message. Never raises."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - as above; and a whole number may be too long for text
        text = f"<no repr: {type(error).__name__} of {type(value).__name__}>"
    return carried(text[:most])


def is_deeper_than(text: str, levels: int) -> bool:
    """Return whether JSON text has more than ``levels`` nested lists and objects."""
    if text.count("[") + text.count("{") <= levels:
        return False
    depth = 0
    for found in _BRACKET_OR_STRING.finditer(text):
        bracket = found[0]
        if bracket in "[{":
            depth += 1
            if depth > levels:
                return True
        elif bracket in "]}":
            depth -= 1
    return False


_BRACKET_OR_STRING = re.compile(r'[\[{\]}]|"(?:[^"\\]|\\.)*"')


def offset(local: datetime.datetime) -> str:
    """Return the offset of a time from UTC: ``+09:00``."""
    return f"{local:%z}"[:3] + ":" + f"{local:%z}"[3:5]


def zoned(at: datetime.datetime, to: str = "second") -> str:
    """Return a time in the site's zone, to one of FORMATS, with its offset: ``2026-03-02 09:00:00 +09:00``."""
    local = timezone.localtime(at)
    return f"{local.strftime(FORMATS[to])} {offset(local)}"
