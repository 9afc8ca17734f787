"""JSON as an answer may hold it."""

from __future__ import annotations

from typing import Any

from rest_framework.renderers import JSONRenderer

from pressroom.text import carried_json


class SafeJSONRenderer(JSONRenderer):
    """DRF's renderer, which has an answer for what JSON cannot hold, too: NaN, half a surrogate pair, endless depth.

    What tasks return and users wrote is shown beside other people's: one of it must not be an error for all.
    """

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        try:
            return self._rendered(data, accepted_media_type, renderer_context)
        except (ValueError, RecursionError):
            return self._rendered(carried_json(data), accepted_media_type, renderer_context)

    def _rendered(self, *arguments: Any) -> bytes:
        rendered: bytes = super().render(*arguments)
        return rendered
