"""Fields and serializers that several parts of the API share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

MOST_NAMED = 20
"""How many unknown fields an error names."""


class UserNameField(serializers.CharField):
    """The name of the user who did something. Null for a command or code, or if the account is gone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, read_only=True, allow_null=True)

    def to_representation(self, value: Any) -> str:
        return str(value.get_username())


def refuse_unknown(data: Any, known: Mapping[str, Any], text: str) -> None:
    """Raise ValidationError for each name in a request that is not known.

    A request with a misspelt name would mean something else than its sender thinks.
    """
    unknown = sorted((name for name in data if name not in known), key=str) if isinstance(data, Mapping) else []
    if unknown:
        raise serializers.ValidationError(dict.fromkeys(map(str, unknown[:MOST_NAMED]), text))


class KnownFieldsMixin(serializers.Serializer[Any]):
    """Refuses fields that the serializer does not have. It ignores those that cannot be written, as usual."""

    def to_internal_value(self, data: Any) -> Any:
        refuse_unknown(data, self.fields, "There is no such field.")
        return super().to_internal_value(data)
