"""Pagination of lists."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import DataError
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ValidationError


class NewestFirst(CursorPagination):
    """Newest first, paginated by keyset, so that page 1,000 costs as much as page 1."""

    ordering = "-id"
    page_size = 20
    page_size_query_param = "page_size"
    max_page_size = 100

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, TypeError, DjangoValidationError, DataError) as error:
            # The cursor can be decoded, but it holds a position that this list cannot have.
            raise NotFound(self.invalid_cursor_message) from error

    def get_page_size(self, request: Request) -> int:
        """Return the requested page size. Raises ValidationError for an invalid one, where DRF uses the default."""
        text = request.query_params.get(self.page_size_query_param)
        if text is None:
            return self.page_size
        if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= self.max_page_size):
            raise ValidationError({self.page_size_query_param: f"Must be a number from 1 to {self.max_page_size}."})
        return int(text)

    def get_paginated_response(self, data: Any) -> Response:
        response = super().get_paginated_response(data)
        pages = {"prev": response.data["previous"], "next": response.data["next"]}
        links = [f'<{url}>; rel="{name}"' for name, url in pages.items() if url]
        if links:
            response["Link"] = ", ".join(links)
        return response

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Add the limits of the page size to DRF's parameters."""
        parameters: list[dict[str, Any]] = super().get_schema_operation_parameters(view)
        for parameter in parameters:
            if parameter["name"] == self.page_size_query_param:
                parameter["schema"] |= {"minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        return parameters

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Describe a page in the vocabulary of OpenAPI 3.1. DRF uses that of 3.0."""
        link = {"type": ["string", "null"], "format": "uri", "example": None}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "next": link,
                "previous": link,
                "results": schema,
            },
        }
