"""The OpenAPI schema: the parameters, headers and errors that all operations share."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiParameter

from app.http.problems import CONTENT_TYPE

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    # Printable ASCII. A server strips a space at either end of a header.
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!-~]([ -~]*[!-~])?$"},
    OpenApiParameter.HEADER,
    description="Identifies this request for 24 hours. A repeat gets the first answer and starts nothing new.",
    examples=[OpenApiExample("A UUID chosen by the client", "5f2b1c1e-6f0a-4d5c-9a55-0d6d3a0f6c11")],
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    {"type": "string", "pattern": '^(\\*|"[!#-~]*"(, *"[!#-~]*")*)$'},
    OpenApiParameter.HEADER,
    description="The ETag of the object. If the object has changed since, nothing is changed and the answer is 412.",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    {"type": "string", "pattern": '^(\\*|"[!#-~]*"(, *"[!#-~]*")*)$'},
    OpenApiParameter.HEADER,
    description="The ETag of the client's copy. If nothing has changed since, the answer is 304.",
)


class Schema(AutoSchema):
    """drf-spectacular's schema with what all operations share: filters, headers and errors."""

    @property
    def _handler(self) -> Any:
        return getattr(self.view, getattr(self.view, "action", None) or self.method.lower(), None)

    @property
    def _is_idempotent(self) -> bool:
        return getattr(self._handler, "takes_idempotency_key", False)

    @property
    def _is_conditional(self) -> bool:
        return "{" in self.path and getattr(self.view, "takes_preconditions", False)

    @property
    def _can_be_followed(self) -> bool:
        """Whether a 202 has an address to poll: it has one for a task, but not for a mail."""
        answers = self.get_response_serializers()
        accepted = answers.get(202) if isinstance(answers, dict) else answers
        return "url" in getattr(accepted, "_declared_fields", {})

    def get_override_parameters(self) -> list[Any]:
        narrowed_by = getattr(self.view, "filter_serializer_class", None) if self._is_list_view() else None
        parameters: list[Any] = [narrowed_by] if narrowed_by is not None else []
        if self._is_idempotent:
            parameters.append(IDEMPOTENCY_KEY)
        if self._is_conditional:
            parameters.append(IF_NONE_MATCH if self.method == "GET" else IF_MATCH)
        return parameters

    def get_summary(self) -> str | None:
        """Return the first sentence of the description if the view gives no summary."""
        first = (self.get_description() or "").partition("\n\n")[0].partition(". ")[0]
        return " ".join(first.split()).removesuffix(".") or None

    def get_operation(self, *arguments: Any) -> Any:
        operation = super().get_operation(*arguments)
        if operation is None:
            return None
        responses = operation["responses"]
        if self.method == "GET":
            responses.setdefault("304", {"description": "Not modified: If-None-Match names the current state."})
        for status in sorted(self._problems()):
            responses.setdefault(str(status), {"description": HTTPStatus(status).phrase, "content": PROBLEM_CONTENT})
        for status, response in responses.items():
            if headers := self._headers(int(status)):
                response["headers"] = headers | response.get("headers", {})
        return operation

    def _problems(self) -> set[int]:
        """Return the statuses of the errors that the operation may answer with."""
        statuses = {*ANYWHERE, *getattr(self.view, "also_answers", ())}
        if self.view.get_authenticate_header(self.view.request):
            statuses.add(401)
        if self.view.get_authenticators():
            statuses.add(403)
        if "{" in self.path or self._is_list_view():
            statuses.add(404)
        if self.method in ("POST", "PUT", "PATCH"):
            statuses.add(415)
        if self.method != "GET":
            # Any write can lose a race: see app/http/problems.py.
            statuses.add(409)
        if self._is_idempotent:
            statuses.add(422)
        if self.method == "GET" or self._is_conditional:
            statuses.add(412)
        if self.view.get_throttles():
            statuses.add(429)
        return statuses

    def _headers(self, status: int) -> dict[str, Any]:
        names = {
            HTTPStatus.ACCEPTED: ["Location!", "Retry-After!"] if self._can_be_followed else [],
            HTTPStatus.UNAUTHORIZED: ["WWW-Authenticate!"],
            HTTPStatus.METHOD_NOT_ALLOWED: ["Allow!"],
            HTTPStatus.TOO_MANY_REQUESTS: ["Retry-After"],
            HTTPStatus.SERVICE_UNAVAILABLE: ["Retry-After!"],
            HTTPStatus.NOT_MODIFIED: ["ETag!"],
        }.get(HTTPStatus(status), [])
        if status == HTTPStatus.OK and (self.method == "GET" or (self._is_conditional and self.method != "POST")):
            names.append("ETag")
        if status == HTTPStatus.OK and self._is_list_view():
            names.append("Link")
        if status == HTTPStatus.CREATED and self._is_create_operation():
            names += ["Location!", "ETag!"]
        if status < HTTPStatus.MULTIPLE_CHOICES and self._is_idempotent:
            names.append("Idempotency-Replayed")
        if status == HTTPStatus.OK:
            names += getattr(self._handler, "response_headers", ())
        return {name.rstrip("!"): {**HEADERS[name.rstrip("!")], "required": name.endswith("!")} for name in names}


HEADERS = {
    "Allow": {"description": "The methods that this URL supports.", "schema": {"type": "string"}},
    "Cache-Control": {"description": "Which caches may store the answer.", "schema": {"type": "string"}},
    "Content-Disposition": {"description": "The name of the file.", "schema": {"type": "string"}},
    "ETag": {
        "description": "Identifies the current state of the resource, for If-None-Match and If-Match.",
        "schema": {"type": "string", "pattern": '^"[!#-~]+"$'},
    },
    "Idempotency-Replayed": {
        "description": "Present if this is a stored answer: the one to the first request with this Idempotency-Key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Link": {"description": "The `next` and the `prev` page (RFC 8288).", "schema": {"type": "string"}},
    "Location": {
        "description": "The URL of the created object, or of the task.",
        "schema": {"type": "string", "format": "uri"},
    },
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer", "minimum": 0}},
    "WWW-Authenticate": {"description": "The scheme to authenticate with.", "schema": {"type": "string"}},
}


PROBLEM = {
    "type": "object",
    "description": "An error as a problem document (RFC 9457).",
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
                    "pointer": {"type": "string", "description": "JSON Pointer (RFC 6901) into the request's body."},
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

ANYWHERE = (400, 405, 406, 413, 503)
PROBLEM_CONTENT = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}


def add_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the schema that every error refers to. It is one of ``POSTPROCESSING_HOOKS``."""
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM
    return result
