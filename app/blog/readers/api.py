"""The API for subscriptions: readers ask for one, authors see their own."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_serializer, extend_schema_view
from rest_framework import mixins, permissions, serializers, status, viewsets
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle, ScopedRateThrottle

from app.blog import changes
from app.blog.models import Subscription, audience, counting
from app.blog.subscriptions.services import authors, folded
from app.http.pagination import NewestFirst
from app.http.permissions import may
from pressroom.http.idempotency import idempotent
from pressroom.http.openapi import examples

ASKED = {
    "detail": "A mail with a link to confirm is on its way to the address, unless it is subscribed already or got such"
    " a mail in the last 24 hours."
}
COUNTED = {
    "id": 12,
    "author": "kim",
    "email": "reader@example.com",
    "confirmed_at": "2026-03-02T09:12:40.118903+09:00",
}


@extend_schema_serializer(examples=examples(request={"author": "kim", "email": "reader@example.com"}))
class SubscribeSerializer(serializers.Serializer[Any]):
    """An e-mail address, and the author whose new posts it is to receive."""

    author = serializers.CharField(max_length=150, help_text="User name of an author who has published a post.")
    email = serializers.EmailField(max_length=254)

    def validate_author(self, username: str) -> Any:
        author = authors().filter(username=username).first()
        if author is None:
            raise serializers.ValidationError("No author has this name.")
        return author

    def validate_email(self, email: str) -> str:
        return folded(email)


@extend_schema_serializer(examples=examples(response=ASKED))
class AskedSerializer(serializers.Serializer[Any]):
    """Confirmation that the request was accepted. It does not reveal whether the address is subscribed."""

    detail = serializers.CharField(read_only=True)


@extend_schema_serializer(examples=examples(response=COUNTED))
class SubscriptionSerializer(serializers.ModelSerializer[Subscription]):
    """A confirmed subscription."""

    author = serializers.CharField(source="author.username", help_text="User name of the author.")
    email = serializers.EmailField(source="subscriber.email")

    class Meta:
        model = Subscription
        fields = ("id", "author", "email", "confirmed_at")
        read_only_fields = fields


@extend_schema_serializer(examples=examples(response={"count": 1000}))
class CountSerializer(serializers.Serializer[Any]):
    """A number of subscriptions."""

    count = serializers.IntegerField(read_only=True)


class SubscriptionFilterSerializer(serializers.Serializer[Any]):
    """The filter of the list of subscriptions."""

    author = serializers.CharField(max_length=150, required=False, help_text="User name of the author.")


class SubscriptionPagination(NewestFirst):
    """The newest address first: in this order the index of an author's audience holds them."""

    ordering = ("-subscriber_id", "-id")  # type: ignore[assignment]  # DRF takes several


class ReadersAsk(permissions.BasePermission):
    """Everybody may ask for a subscription. Signed-in users see the subscriptions to themselves."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return view.action == "create" or request.user.is_authenticated


@extend_schema_view(
    list=extend_schema(
        summary="List your subscribers",
        description="List the confirmed subscriptions to your posts, newest address first. With the permission to view"
        " subscriptions, this lists those to all authors.",
    )
)
class SubscriptionViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Subscription]):
    """Subscriptions to authors. Authors see their own, users with the permission to view subscriptions see all."""

    serializer_class = SubscriptionSerializer
    filter_serializer_class = SubscriptionFilterSerializer
    permission_classes = (ReadersAsk,)
    pagination_class = SubscriptionPagination
    throttle_scope = "subscribe"

    def get_authenticators(self) -> list[BaseAuthentication]:
        """Return none for a reader's request, so that an expired token does not refuse it."""
        is_asking = self.request is not None and self.request.method == "POST"
        return [] if is_asking else super().get_authenticators()

    def get_throttles(self) -> list[BaseThrottle]:
        return [ScopedRateThrottle()] if self.action == "create" else []

    def get_queryset(self) -> QuerySet[Subscription]:
        """Return the subscriptions that count and that the user may see."""
        seen = counting() if may(self.request.user, "view", Subscription) else audience(self.request.user.pk)
        return seen.select_related("author", "subscriber")

    def narrow(self, queryset: QuerySet[Subscription], fields: dict[str, Any]) -> QuerySet[Subscription]:
        """Apply the filter of the list."""
        return queryset.filter(**{f"{name}__username": value for name, value in fields.items()})

    @extend_schema(
        request=SubscribeSerializer, responses={202: AskedSerializer}, operation_id="subscriptions_create",
        summary="Subscribe to an author",
    )  # fmt: skip
    @idempotent
    def create(self, request: Request) -> Response:
        """Subscribe an address to an author's new posts.

        The address gets a mail with a link, and counts once its owner has confirmed there. An address gets one such
        mail in 24 hours for each author, and no more than the site's limit for all authors together. The answer reveals
        nothing about an address: it is the same if the address is subscribed, or gets no mail because of these limits.
        """
        serializer = SubscribeSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        changes.subscribe(**serializer.validated_data)
        return Response(ASKED, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses=CountSerializer, summary="Count your subscribers", filters=False)
    @action(detail=False, pagination_class=None)
    def count(self, request: Request) -> Response:
        """Count the confirmed subscriptions to your posts, whatever you may see of others."""
        return Response({"count": audience(request.user.pk).count()})
