"""What the OpenAPI description says of errors: the same for every operation, so said once."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from app.problems import CONTENT_TYPE

PROBLEM = {
    "type": "object",
    "description": "RFC 9457.",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "description": "RFC 6901, into the request's body."},
                    "detail": {"type": "string"},
                },
                "required": ["pointer", "detail"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "instance"],
    "example": {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "The request is not valid.",
        "instance": "/api/posts/",
        "errors": [{"pointer": "#/title", "detail": "This field is required."}],
    },
}

ANYWHERE = (400, 401, 404, 405, 429, 503)
WITH_BODY = (413, 415)


def add_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """For ``POSTPROCESSING_HOOKS``: every operation names its errors, where it does not already."""
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM
    content = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path in result["paths"].values():
        for method, operation in path.items():
            statuses = {*ANYWHERE, *(WITH_BODY if method in ("post", "put", "patch") else ())}
            if operation.get("security"):
                statuses.add(403)
            if method == "post":
                statuses |= {409, 422}
            for status in sorted(statuses):
                operation["responses"].setdefault(
                    str(status), {"description": HTTPStatus(status).phrase, "content": content}
                )
    return result
