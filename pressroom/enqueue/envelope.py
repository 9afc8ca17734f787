"""A run as the message that kombu's Redis transport expects: protocol 2, one JSON envelope for each message."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

HEADER = "taskrun"
"""The message header that names the run. A worker runs a message without it as plain Celery does."""


def envelope(
    queue: str,
    headers: str,
    body: str,
    properties: str,
    run_id: uuid.UUID | None = None,
    attempt: int = 0,
    priority: int = 0,
    redelivered: bool = False,
    due: float | None = None,
) -> str:
    """Return the message as JSON text, for LPUSH. ``headers``, ``body`` and ``properties`` are JSON texts, too.

    With ``run_id`` the header ``taskrun`` names the run, how often it was claimed before (``attempt``), its
    ``priority`` and since when it is ``due`` (Unix time). Without, it is a message of plain Celery. ``redelivered``
    marks a run that a worker has had before and gave back or lost.
    """
    all_headers = json.loads(headers)
    if run_id is not None:
        all_headers[HEADER] |= {"id": str(run_id), "attempt": attempt, "priority": priority, "due": due}
    # kombu writes the mark in two places, and only if it is true.
    mark = {"redelivered": True} if redelivered else {}
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": all_headers | mark,
            "properties": json.loads(properties)
            | {
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": queue, **mark},
                "delivery_mode": 2,
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    )


def run_named_in(headers: Any) -> tuple[uuid.UUID, int | None] | None:
    """Return the run that a message's headers name and how often it was claimed before.

    Returns None if the headers name no run or are malformed.
    """
    try:
        header = headers[HEADER]
        attempt = header.get("attempt")
        if attempt is not None and type(attempt) is not int:
            return None
        return uuid.UUID(header["id"]), attempt
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def run_id_in(message: bytes | str) -> uuid.UUID | None:
    """Return the run that a message in Redis names, or None if it is not a message of the ledger."""
    try:
        named = run_named_in(json.loads(message)["headers"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return named[0] if named else None
