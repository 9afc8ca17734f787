"""The API for orders, and Stripe's webhook."""

from __future__ import annotations

from typing import Any

import stripe
from celery.result import AsyncResult
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_serializer, extend_schema_view
from rest_framework import mixins, permissions, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle
from rest_framework.views import APIView

from app.http.api_permissions import OwnerOrPermitted
from app.http.pagination import NewestFirst
from app.http.permissions import may
from app.payments import services
from app.payments.models import Order
from app.payments.prices import PLANS
from app.payments.tasks import process_payment
from pressroom.http.idempotency import idempotent
from pressroom.http.openapi import examples
from pressroom.http.preconditions import ConditionalMixin
from pressroom.http.subjects import tasks_about
from pressroom.http.task_api import POLL_AFTER, CalledTaskSerializer, Conflict, called_payload
from pressroom.models import TaskRun

BOUGHT = {
    "id": "0b6f2c9e-6a7e-4c55-8f0e-3a1d6f1f2f10",
    "url": "https://press.example.com/api/orders/0b6f2c9e-6a7e-4c55-8f0e-3a1d6f1f2f10/",
    "plan": "monthly",
    "amount": 9900,
    "currency": "krw",
    "status": "pending",
    "failure": "",
    "created_at": "2026-03-02T09:00:00.397714+09:00",
    "paid_at": None,
}
# An excerpt of an event as Stripe sends it: https://docs.stripe.com/api/events/object
EVENT = {
    "id": "evt_1",
    "object": "event",
    "type": "payment_intent.succeeded",
    "data": {"object": {"id": "pi_1", "object": "payment_intent", "status": "succeeded"}},
}


@extend_schema_serializer(examples=examples(request={"plan": "monthly"}, response=BOUGHT))
class OrderSerializer(serializers.ModelSerializer[Order]):
    """An order. Its amount is in the smallest unit of the currency."""

    url = serializers.HyperlinkedIdentityField(view_name="order-detail", lookup_field="pk")
    plan = serializers.ChoiceField(choices=sorted(PLANS))

    class Meta:
        model = Order
        fields = ("id", "url", "plan", "amount", "currency", "status", "failure", "created_at", "paid_at")
        read_only_fields = ("id", "url", "amount", "currency", "status", "failure", "created_at", "paid_at")
        extra_kwargs = {"failure": {"help_text": "Why the payment failed or stopped, or empty."}}


@extend_schema_serializer(examples=examples(request={"payment_method": "pm_card_visa"}))
class PaySerializer(serializers.Serializer[Order]):
    """The payment method, as the id that Stripe's form in the browser has created. The site never sees card numbers."""

    payment_method = serializers.RegexField(r"\A(pm|card|src)_[A-Za-z0-9_]{1,200}\Z")


class OrderFilterSerializer(serializers.Serializer[Order]):
    """The filters of the list of orders."""

    status = serializers.ChoiceField(choices=Order.Status.choices, required=False)


tasks_about("order", "order-detail", process_payment)


class OrderPagination(NewestFirst):
    """Orders by time first, because the ids are random."""

    ordering = ("-created_at", "-id")  # type: ignore[assignment]  # DRF takes both


@extend_schema_view(list=extend_schema(summary="List orders"), retrieve=extend_schema(summary="Retrieve an order"))
class OrderViewSet(
    ConditionalMixin, mixins.CreateModelMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin,
    viewsets.GenericViewSet[Order],
):  # fmt: skip
    """Your orders. Users with the permission to view orders see all orders."""

    serializer_class = OrderSerializer
    filter_serializer_class = OrderFilterSerializer
    permission_classes = (permissions.IsAuthenticated, OwnerOrPermitted)
    pagination_class = OrderPagination
    lookup_value_converter = "uuid"
    throttle_scope = "payments"

    def get_throttles(self) -> list[Any]:
        return [ScopedRateThrottle()] if self.action in ("create", "pay") else []

    def get_queryset(self) -> QuerySet[Order]:
        """Return the orders that the user may see. All others get 404."""
        if getattr(self, "swagger_fake_view", False):
            return Order.objects.none()
        orders = Order.objects.all()
        return orders if may(self.request.user, "view", Order) else orders.filter(owner=self.request.user.pk)

    @idempotent
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Order a plan at its current price. The order is not paid yet."""
        return super().create(request, *args, **kwargs)

    def perform_create(self, serializer: serializers.BaseSerializer[Order]) -> None:
        serializer.instance = services.order_create(owner=self.request.user, **serializer.validated_data)

    @extend_schema(request=PaySerializer, responses={202: CalledTaskSerializer})
    @action(detail=True, methods=["post"])
    @idempotent
    def pay(self, request: Request, pk: Any = None) -> Response:
        """Pay an order. While it is being paid, a repeated request returns the same task, with `repeated`.

        A paid or failed order gets 409. An order that is `interrupted`, because its task was cancelled or became a dead
        letter, can be paid again. It is charged only once.
        """
        serializer = PaySerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        order = self.get_object()
        if not settings.STRIPE_SECRET_KEY:
            raise Conflict("This site does not accept payments.")
        method = serializer.validated_data["payment_method"]
        with transaction.atomic():
            begins = services.order_begin_payment(order_id=order.pk, payment_method=method)
            if begins:
                started = process_payment.delay(str(order.pk))
                Order.objects.filter(pk=order.pk).update(task_id=started.id)
        order.refresh_from_db()
        if order.status != Order.Status.PROCESSING:
            raise Conflict(f"The order is already {order.status}.")
        if order.payment_method != method:
            raise Conflict("The order is being paid with another payment method.")
        try:
            run = called_payload(AsyncResult(order.task_id), request, repeated=not begins)
        except TaskRun.DoesNotExist as error:
            raise Conflict("The order is being paid, but its task has been deleted.") from error
        headers = {"Location": run["url"], "Retry-After": str(POLL_AFTER)}
        return Response(run, status=status.HTTP_202_ACCEPTED, headers=headers)


class WebhookView(APIView):
    """Receives Stripe's events. Events that are repeated, late or out of order do not undo what is done."""

    permission_classes = (permissions.AllowAny,)
    authentication_classes = ()

    @extend_schema(
        request=OpenApiTypes.OBJECT,
        responses={204: None},
        operation_id="payments_webhook",
        examples=examples(request=EVENT),
    )
    def post(self, request: Request) -> Response:
        """Receive an event from Stripe. It must be signed with STRIPE_WEBHOOK_SECRET and at most 5 minutes old."""
        if not settings.STRIPE_WEBHOOK_SECRET:
            raise serializers.ValidationError("STRIPE_WEBHOOK_SECRET is not set, so the signature cannot be checked.")
        try:
            event = services.event_verify(payload=request.body, signature=request.headers.get("Stripe-Signature", ""))
        except (ValueError, stripe.SignatureVerificationError) as error:
            raise serializers.ValidationError("This is not a recent event signed by Stripe.") from error
        services.event_handle(event=event)
        return Response(status=status.HTTP_204_NO_CONTENT)
