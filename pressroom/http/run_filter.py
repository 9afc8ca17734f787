"""The filter of runs in the API, for the list of tasks and for actions on all that match."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from rest_framework import serializers

from pressroom.conf import declared_queues
from pressroom.http.fields import refuse_unknown
from pressroom.http.permissions import may_view
from pressroom.models import Status
from pressroom.sql.run_filter import (
    BAD_SPAN,
    BAD_YEAR,
    LOOKED_THROUGH,
    STANDINGS,
    Looked,
    RunFilter,
    has_good_year,
    is_good_span,
    user_id_of,
)

STATUSES = ["failed" if status is Status.DEAD else status.value for status in Status]
MOST_PART = 50
"""Characters of a text that is searched for. All filters together have to fit into a URL, escaped."""
INDEXED = {"status", "queue", "name"}
"""The filters that an index answers together. With another one, a page is what a bounded search has found."""


def _check_year(moment: datetime.datetime) -> None:
    if not has_good_year(moment):
        raise serializers.ValidationError(BAD_YEAR)


class RunFilterSerializer(serializers.Serializer[Any]):
    """Conditions on runs. All of them hold together."""

    status = serializers.ChoiceField(
        choices=[*STATUSES, *STANDINGS], required=False,
        help_text="`later` is due in the future. `held` waits for a limit or a pause.",
    )  # fmt: skip
    queue = serializers.ChoiceField(choices=sorted(declared_queues()), required=False)
    name = serializers.CharField(max_length=200, required=False, help_text="Of the task.")
    error = serializers.CharField(
        max_length=MOST_PART, required=False, help_text="Part of the last error's class or text."
    )
    argument = serializers.CharField(max_length=MOST_PART, required=False, help_text="Part of the arguments, as JSON.")
    result = serializers.CharField(max_length=MOST_PART, required=False, help_text="Part of the result, as JSON.")
    worker = serializers.CharField(max_length=MOST_PART, required=False, help_text="Part of the last worker's name.")
    owner = serializers.CharField(max_length=150, required=False, help_text="User name.")
    since = serializers.DateTimeField(required=False, validators=[_check_year], help_text="Called then or later.")
    until = serializers.DateTimeField(required=False, validators=[_check_year], help_text="Called before.")

    def to_internal_value(self, data: Any) -> Any:
        """Refuse a condition that does not exist: without it, more runs would match. A list checks by itself."""
        if self.parent is not None:
            refuse_unknown(data, self.fields, "Unknown condition.")
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse an end that is not after the beginning: nothing could match."""
        if not is_good_span(attrs.get("since"), attrs.get("until")):
            raise serializers.ValidationError({"until": BAD_SPAN})
        return attrs

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """Return a stored filter as a request would give it. One of a later release is returned as it is stored."""
        try:
            wanted = RunFilter.from_json(instance)
        except (ValueError, TypeError):
            return instance if isinstance(instance, dict) else {}
        shown: dict[str, Any] = {
            "status": "failed" if wanted.status == Status.DEAD else wanted.status,
            "queue": wanted.queue,
            "name": wanted.names[0] if len(wanted.names) == 1 else "",
            "error": wanted.error or wanted.error_type,
            "argument": wanted.text,
            "result": wanted.result,
            "worker": wanted.worker,
            "owner": _name_of(wanted.owner_id),
            "since": wanted.since and self.fields["since"].to_representation(wanted.since),
            "until": wanted.until and self.fields["until"].to_representation(wanted.until),
        }
        return {name: value for name, value in shown.items() if value}


def run_filter(fields: dict[str, Any], user: Any) -> RunFilter:
    """Return the filter for validated ``fields``. Of a user who may not view all runs, it matches their own ones.

    Raises ValidationError if there is no such owner, or if the user asks for somebody else's runs.
    """
    wanted = dict(fields)
    owner, name, status = wanted.pop("owner", ""), wanted.pop("name", ""), wanted.pop("status", "")
    owner_id = None
    if not may_view(user):
        if owner not in ("", user.get_username()):
            raise serializers.ValidationError({"owner": "You see only your own tasks."})
        owner_id = user.pk
    elif owner:
        owner_id = user_id_of(owner)
        if owner_id is None:
            raise serializers.ValidationError({"owner": "There is no user with this name."})
    return RunFilter(
        names=(name,) if name else (),
        status=str(Status.DEAD) if status == "failed" else status,
        text=wanted.pop("argument", ""),
        owner_id=owner_id,
        **wanted,
    )


def newest(wanted: RunFilter, limit: int, before: uuid.UUID | None) -> tuple[list[uuid.UUID], uuid.UUID | None]:
    """Return the newest runs that match, at most ``limit``, and where to continue; None if that is all.

    It looks through LOOKED_THROUGH rows, so there may be fewer than ``limit``, or none, although there are more.
    """
    looked = Looked(wanted, LOOKED_THROUGH, before)
    with connection.cursor() as cursor:
        cursor.execute(*looked.newest(limit + 1, "found.id"))
        run_ids = [run_id for (run_id,) in cursor.fetchall()]
    return (run_ids[:limit], run_ids[limit - 1]) if len(run_ids) > limit else (run_ids, looked.end)


def _name_of(user_id: int | None) -> str:
    user = get_user_model()._default_manager.filter(pk=user_id).first() if user_id is not None else None
    return user.get_username() if user is not None else ""
