"""The renderer of the API's JSON."""

from __future__ import annotations

from typing import Any

from rest_framework.renderers import JSONRenderer

from pressroom.text import carried_json


class SafeJSONRenderer(JSONRenderer):
    """DRF's renderer, which also renders what JSON cannot hold: NaN, half a surrogate pair, too many levels.

    A list may show what tasks returned and what users wrote. A single bad value must not make the whole list an error.
    """

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        try:
            return self._rendered(data, accepted_media_type, renderer_context)
        except (ValueError, RecursionError):
            return self._rendered(carried_json(data), accepted_media_type, renderer_context)

    def _rendered(self, *arguments: Any) -> bytes:
        rendered: bytes = super().render(*arguments)
        return rendered
