"""``/api/task-actions/``: actions on all tasks that match a filter, and their progress."""

from __future__ import annotations

import dataclasses
from typing import Any

from celery import current_app
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_serializer
from rest_framework import exceptions, mixins, permissions, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from pressroom import operator_actions
from pressroom.bulk import orders
from pressroom.enqueue.arguments import PRIORITIES
from pressroom.http.fields import KnownFieldsMixin, UserNameField
from pressroom.http.idempotency import idempotent
from pressroom.http.openapi import examples, response_headers
from pressroom.http.permissions import may_operate, may_view
from pressroom.http.preconditions import ConditionalMixin
from pressroom.http.run_filter import RunFilterSerializer, run_filter
from pressroom.http.task_api import POLL_AFTER, Conflict
from pressroom.models import BulkAction
from pressroom.sql.run_filter import RunFilter

MOST_OWN = 3
"""How many actions a user who may not operate the site can have under way. The other places are for others."""
REQUEST = {"kind": "cancel", "filter": {"queue": "emails", "status": "queued", "since": "2026-03-02T08:00:00+09:00"}}
RESPONSE = {
    "id": 12,
    "url": "https://press.example.com/api/task-actions/12/",
    **REQUEST,
    "queue": "",
    "priority": None,
    "state": "running",
    "total": 1200,
    "done": 500,
    "skipped": 0,
    "failed": 0,
    "reasons": {},
    "error": "",
    "by": "anna",
    "ordered_at": "2026-03-02T09:00:00.412905+09:00",
    "ended_at": None,
}


@extend_schema_serializer(examples=examples(request=REQUEST, response=RESPONSE))
class BulkActionSerializer(KnownFieldsMixin, serializers.ModelSerializer[BulkAction]):
    """An action on all tasks that match a filter."""

    url = serializers.HyperlinkedIdentityField(view_name="task-action-detail", lookup_field="pk")
    kind = serializers.ChoiceField(choices=BulkAction.Kind.values)
    filter = RunFilterSerializer(help_text="Which tasks. Give at least one condition.")
    queue = serializers.CharField(
        required=False, allow_blank=True, max_length=200, help_text="Where `move` moves to. Empty: the queue stays."
    )
    priority = serializers.IntegerField(
        required=False, allow_null=True, min_value=PRIORITIES[0], max_value=PRIORITIES[-1],
        help_text="Which priority `move` gives. Null: it stays.",
    )  # fmt: skip
    reasons = serializers.DictField(
        child=serializers.IntegerField(), read_only=True, help_text="Why tasks were skipped or failed: how many."
    )
    by = UserNameField(help_text="Who ordered it. Null for a command or code.")

    class Meta:
        model = BulkAction
        fields = (
            "id", "url", "kind", "filter", "queue", "priority", "state", "total", "done", "skipped", "failed",
            "reasons", "error", "by", "ordered_at", "ended_at",
        )  # fmt: skip
        read_only_fields = ("state", "total", "done", "skipped", "failed", "error", "ordered_at", "ended_at")

    def validate_filter(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Refuse a filter without a condition: a client that has lost its condition would act on everything."""
        if not fields:
            raise serializers.ValidationError("Give at least one condition.")
        return fields


class BulkActionViewSet(
    ConditionalMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[BulkAction]
):
    """Actions on all tasks that match a filter. Yours; with a permission of the operations pages, everybody's."""

    serializer_class = BulkActionSerializer
    permission_classes = (permissions.IsAuthenticated,)
    lookup_value_converter = "int"

    def get_queryset(self) -> QuerySet[BulkAction]:
        """Return the user's actions, or all of them if the user may view them."""
        found = BulkAction.objects.select_related("by")
        return found if may_view(self.request.user) else found.filter(by=self.request.user.pk)

    @extend_schema(responses={202: BulkActionSerializer})
    @response_headers("Retry-After")
    @idempotent
    def create(self, request: Request) -> Response:
        """Act on all tasks that match now. Read the answer's `url` to follow it.

        It works in the background. Tasks that are called later are left alone, and those whose state does not allow
        the action are skipped. If you may not operate the site, you can cancel what you have ordered yourself, and
        nothing else. The same action twice at a time gives 409.
        """
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        fields = dict(serializer.validated_data)
        wanted = self._allowed(fields["kind"], run_filter(fields.pop("filter"), request.user))
        if not may_operate(request.user):
            fields["most_own"] = MOST_OWN
        try:
            made = orders.order(**fields, wanted=wanted, user=request.user)
        except ValueError as error:
            raise serializers.ValidationError({"kind": str(error)}) from error
        except operator_actions.NotPossible as error:
            raise Conflict(str(error)) from error
        data = self.represent(made)
        headers = self.get_success_headers(data) | {"Retry-After": str(POLL_AFTER)}
        return Response(data, status=status.HTTP_202_ACCEPTED, headers=headers)

    def _allowed(self, kind: str, wanted: RunFilter) -> RunFilter:
        """Return the filter for what the user may act on. Raises PermissionDenied if that is nothing."""
        user: Any = self.request.user
        if may_operate(user):
            return wanted
        mine = [name for name, task in current_app.tasks.items() if getattr(task, "owner_may_cancel", False)]
        names = tuple(name for name in sorted(mine) if not wanted.names or name in wanted.names)
        if kind != BulkAction.Kind.CANCEL or not names:
            raise exceptions.PermissionDenied("Only those who operate the site may do this.")
        return dataclasses.replace(wanted, names=names, owner_id=user.pk)

    @extend_schema(request=None, responses=BulkActionSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def cancel(self, request: Request, pk: Any = None) -> Response:
        """Stop an action. What it has done stays done. One that has ended gives 409."""
        one = self.get_object()
        if one.by_id != request.user.pk and not may_operate(request.user):
            raise exceptions.PermissionDenied("Only those who operate the site may stop what others ordered.")
        try:
            orders.stop(action=one, user=request.user)
        except operator_actions.NotPossible as error:
            raise Conflict(str(error)) from error
        return Response(self.represent(self.get_queryset().get(pk=one.pk)))
