"""The OpenAPI description: examples, the header of idempotent operations, and errors, which are the same everywhere."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiParameter

from app.problems import CONTENT_TYPE

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Names this request for 24 hours: a repeat gets the first answer, and starts nothing.",
    examples=[OpenApiExample("A UUID of the client's", "5f2b1c1e-6f0a-4d5c-9a55-0d6d3a0f6c11")],
)


def examples(*, request: Any = None, response: Any = None) -> list[OpenApiExample]:
    """What a request and its answer look like, for ``@extend_schema_serializer(examples=examples(…))``.

    Given to ``@extend_schema`` it is for one operation, and stands in the place of the serializer's.
    """
    shown = []
    if request is not None:
        shown.append(OpenApiExample("Request", request, request_only=True))
    if response is not None:
        shown.append(OpenApiExample("Answer", response, response_only=True, status_codes=["200", "201", "202"]))
    return shown


class Schema(AutoSchema):
    """drf-spectacular's, and the header of what is ``@idempotent``."""

    def get_override_parameters(self) -> list[Any]:
        handler = getattr(self.view, getattr(self.view, "action", None) or self.method.lower(), None)
        return [IDEMPOTENCY_KEY] if getattr(handler, "takes_idempotency_key", False) else []


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
