"""``/api/pauses/`` and ``/api/limits/``: flow control by those who operate the site. See docs/flow-control.md.

Its routes include those of `pressroom.http.bulk_api`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_serializer
from rest_framework import exceptions, mixins, permissions, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from pressroom import operator_actions
from pressroom.enqueue.limits import read_key
from pressroom.http.bulk_api import BulkActionViewSet
from pressroom.http.fields import KnownFieldsMixin, UserNameField
from pressroom.http.idempotency import idempotent
from pressroom.http.openapi import examples
from pressroom.http.permissions import may_operate, may_view
from pressroom.http.preconditions import ConditionalMixin
from pressroom.http.task_api import Conflict
from pressroom.models import Limit, Pause, PauseTarget
from pressroom.queues import LANE_SEPARATOR, MOST, parsed_rate, rate_as_text

PAUSE = {
    "id": 7,
    "url": "https://press.example.com/api/pauses/7/",
    "kind": "queue",
    "name": "emails",
    "key": None,
    "since": "2026-03-02T09:00:00.412905+09:00",
    "by": "anna",
}
LIMIT = {
    "id": 3,
    "url": "https://press.example.com/api/limits/3/",
    "kind": "task",
    "name": "shop.tasks.sync_account",
    "concurrency": 5,
    "rate": "100/m",
    "code": {"concurrency": 2, "rate": "100/m"},
    "set_at": "2026-03-02T09:00:00.412905+09:00",
    "set_by": "anna",
}


class KeyField(serializers.JSONField):
    """The key of a pause, which its lane ends with."""

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        # Null is a key. With allow_null its schema would be: anything, or else null.
        return (True, None) if data is None else super().validate_empty_values(data)

    def get_attribute(self, instance: Pause) -> Any:
        return instance.lane.partition(LANE_SEPARATOR)[2]

    def to_representation(self, value: Any) -> Any:
        key = read_key(value)
        return key if key != "" or value else None


@extend_schema_serializer(examples=examples(request={"kind": "queue", "name": "emails"}, response=PAUSE))
class PauseSerializer(KnownFieldsMixin, serializers.ModelSerializer[Pause]):
    """A pause that is in force."""

    url = serializers.HyperlinkedIdentityField(view_name="pause-detail", lookup_field="pk")
    kind = serializers.ChoiceField(choices=PauseTarget.values)
    name = serializers.CharField(max_length=200, help_text="Of the queue or task.")
    key = KeyField(
        required=False,
        help_text="With the kind `key`, the value of the task's key: any JSON. The digest of one that is long.",
    )
    by = UserNameField(help_text="Who paused it. Null for a command or code.")

    class Meta:
        model = Pause
        fields = ("id", "url", "kind", "name", "key", "since", "by")
        read_only_fields = ("since",)
        # The service says which one is paused already.
        validators: tuple[Any, ...] = ()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if (attrs["kind"] == PauseTarget.KEY) != ("key" in attrs):
            raise serializers.ValidationError({"key": "Give a key with the kind key, and with no other kind."})
        return attrs


@extend_schema_serializer(examples=examples(request={"concurrency": 5}, response=LIMIT))
class LimitSerializer(KnownFieldsMixin, serializers.ModelSerializer[Limit]):
    """The limit of a task or a queue, as it is in force."""

    class CodeSerializer(serializers.Serializer[Limit]):
        """What the code says."""

        concurrency = serializers.IntegerField(source="code_concurrency", allow_null=True)
        rate = serializers.SerializerMethodField()

        @extend_schema_field(serializers.CharField(allow_null=True))
        def get_rate(self, limit: Limit) -> str | None:
            if limit.code_rate is None or limit.code_period is None:
                return None
            return rate_as_text(limit.code_rate, limit.code_period)

    class RateField(serializers.CharField):
        """A rate as in the code."""

        def to_internal_value(self, data: Any) -> str:
            text = super().to_internal_value(data)
            try:
                parsed_rate(text)
            except ValueError as error:
                raise serializers.ValidationError(str(error)) from error
            return text

    url = serializers.HyperlinkedIdentityField(view_name="limit-detail", lookup_field="pk")
    concurrency = serializers.IntegerField(
        min_value=1, max_value=MOST, allow_null=True, help_text="Runs at once. Null for no limit."
    )
    rate = RateField(
        source="rate_text", allow_null=True, max_length=20,
        help_text='Starts in a time: "100/m", "5/10s". Units are s, m, h and d. Null for no limit.',
    )  # fmt: skip
    code = CodeSerializer(source="*", read_only=True)
    set_by = UserNameField(help_text="Who set it. Null for a command or code.")

    class Meta:
        model = Limit
        fields = ("id", "url", "kind", "name", "concurrency", "rate", "code", "set_at", "set_by")
        read_only_fields = ("kind", "name", "set_at")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError("Give concurrency, rate or both.")
        return attrs


class MayOperate(permissions.BasePermission):
    """Allows users who may view to read, and users who may operate to write."""

    def has_permission(self, request: Request, view: Any) -> bool:
        is_safe = request.method in permissions.SAFE_METHODS
        return may_view(request.user) if is_safe else may_operate(request.user)


def _done(act: Callable[..., Any], **arguments: Any) -> Any:
    try:
        return act(**arguments)
    except operator_actions.NotPossible as error:
        raise Conflict(str(error)) from error


class PauseViewSet(ConditionalMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Pause]):
    """Paused queues, tasks and keys of tasks. You need a permission of the operations pages."""

    serializer_class = PauseSerializer
    permission_classes = (permissions.IsAuthenticated, MayOperate)
    lookup_value_converter = "int"
    queryset = Pause.objects.select_related("by")

    @idempotent
    def create(self, request: Request) -> Response:
        """Pause a queue, a task or a key of a task. No run of it starts from now on; what runs goes on, and what is
        called is stored and waits. One that is paused already, or that does not exist, gives 409.
        """
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        pause = _done(operator_actions.pause, **serializer.validated_data, user=request.user)
        data = self.represent(pause)
        return Response(data, status=status.HTTP_201_CREATED, headers=self.get_success_headers(data))

    def destroy(self, request: Request, pk: Any = None) -> Response:
        """Resume a queue, a task or a key. What waits starts at once, the longest due first."""
        pause = self.get_object()
        try:
            operator_actions.pause_end(pause=pause, user=request.user)
        except operator_actions.NotPossible as error:
            raise exceptions.NotFound from error
        return Response(status=status.HTTP_204_NO_CONTENT)


class LimitViewSet(ConditionalMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Limit]):
    """Limits of tasks and queues. You need a permission of the operations pages."""

    serializer_class = LimitSerializer
    permission_classes = (permissions.IsAuthenticated, MayOperate)
    lookup_value_converter = "int"

    def get_queryset(self) -> QuerySet[Limit]:
        """Return the limits that the code has or an operator has set."""
        return Limit.objects.select_related("set_by").exclude(code_concurrency=None, code_rate=None, set_at=None)

    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change a limit. It holds at once, for waiting runs too, and stays through deploys until you reset it. What
        the request leaves out stays as it is.
        """
        limit = self.get_object()
        serializer = self.get_serializer(limit, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        wanted = dict(serializer.validated_data)
        if "rate_text" in wanted:
            wanted["rate"] = wanted.pop("rate_text")
        changed = _done(operator_actions.limit_set, kind=limit.kind, name=limit.name, user=request.user, **wanted)
        return Response(self.represent(changed))

    @extend_schema(request=None, responses=LimitSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def reset(self, request: Request, pk: Any = None) -> Response:
        """Put the limit of the code in force again. If it is in force, the answer is 409."""
        limit = self.get_object()
        _done(operator_actions.limit_reset, kind=limit.kind, name=limit.name, user=request.user)
        limit.refresh_from_db()
        return Response(self.represent(limit))


router = SimpleRouter(use_regex_path=False)
router.register("pauses", PauseViewSet, basename="pause")
router.register("limits", LimitViewSet, basename="limit")
router.register("task-actions", BulkActionViewSet, basename="task-action")

urlpatterns = router.urls
