"""A run as the message that kombu's Redis transport expects: protocol 2, one JSON envelope a message."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

HEADER = "taskrun"
"""The message header that names the run. A message without it is plain Celery's and is run as such."""


def envelope(
    queue: str,
    headers: str,
    body: str,
    properties: str,
    run_id: uuid.UUID | None = None,
    attempt: int = 0,
    redelivered: bool = False,
    due: float | None = None,
) -> str:
    """The message as JSON text, for LPUSH; headers, body and properties are JSON texts, too.

    With ``run_id`` its header ``taskrun`` names the run, and how often it was claimed before, and since when it is
    ``due`` (Unix time); without, it is a message of plain Celery.
    ``redelivered``: a worker had it before, and handed it back or died over it.
    """
    all_headers = json.loads(headers)
    if run_id is not None:
        all_headers[HEADER] |= {"id": str(run_id), "attempt": attempt, "due": due}
    # At both places where kombu says so, and only when it is so.
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
    """The run that a message's headers name, and how often it was claimed before; None where none is named rightly."""
    try:
        header = headers[HEADER]
        attempt = header.get("attempt")
        return (uuid.UUID(header["id"]), attempt) if attempt is None or type(attempt) is int else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def run_id_in(message: bytes | str) -> uuid.UUID | None:
    """The run that a message in Redis names, or None for a message that is not ours."""
    try:
        named = run_named_in(json.loads(message)["headers"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return named[0] if named else None
