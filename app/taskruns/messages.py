"""A run as the message that kombu's Redis transport expects: protocol 2, one JSON envelope a message."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

from app.taskruns.outgoing import Published


def envelope(run: Published) -> str:
    """The message as JSON text, for LPUSH. Its header ``taskrun`` names the run."""
    headers = json.loads(run.headers)
    headers["taskrun"] |= {"id": str(run.run_id)}
    properties = json.loads(run.properties)
    return json.dumps(
        {
            "body": base64.b64encode(run.body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties
            | {
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": run.queue},
                "delivery_mode": 2,
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    )


def run_id_in(message: bytes | str) -> uuid.UUID | None:
    """The run that a message in Redis names, or None for a message that is not ours."""
    try:
        decoded: Any = json.loads(message)
        return uuid.UUID(decoded["headers"]["taskrun"]["id"])
    except (ValueError, KeyError, TypeError):
        return None
