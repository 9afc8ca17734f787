"""Posts and subscriptions over HTTP."""

from __future__ import annotations

from typing import Any

from celery import signature
from django.apps import apps
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import transaction
from django.db.models import BigIntegerField, F, Func, Q, QuerySet, Value
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_serializer, extend_schema_view
from rest_framework import permissions, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle
from rest_framework.views import APIView

from app.blog import search, services
from app.blog.covers_api import CoverActions, cover_urls
from app.blog.models import Cover, Post
from app.blog.tasks import invalidate_caches, notify_subscribers, record_view, reindex_post, resize_cover
from app.openapi import examples
from app.pagination import NewestFirst
from app.preconditions import ConditionalMixin
from app.taskruns.about import tasks_about
from app.taskruns.api import NOTIFY, TaskRunSerializer, run_payloads, task_example
from app.taskruns.idempotency import idempotent

WRITTEN = {"title": "Why queues need a ledger", "body": "A list forgets, a table does not."}
DRAFT = {
    "id": 7,
    "self": "https://press.example.com/api/posts/7/",
    "url": "https://press.example.com/posts/why-queues-need-a-ledger/",
    "author": "kim",
    **WRITTEN,
    "slug": "why-queues-need-a-ledger",
    "cover": None,
    "status": "draft",
    "published_at": None,
    "created_at": "2026-03-02T08:41:12.530187+09:00",
    "updated_at": "2026-03-02T08:41:12.530187+09:00",
}
PUBLISHED = DRAFT | {
    "cover": {
        str(width): f"https://press.example.com/covers/0f5bb1d9a1c54d2fb2a3c3d9a0a7e6c4/{width}.webp"
        for width in (480, 960, 1600)
    },
    "status": "published",
    "published_at": "2026-03-02T09:00:00.408331+09:00",
    "updated_at": "2026-03-02T09:00:00.408402+09:00",
}


@extend_schema_serializer(examples=examples(request=WRITTEN, response=PUBLISHED))
class PostSerializer(serializers.ModelSerializer[Post]):
    """A post, whole."""

    author = serializers.SlugRelatedField[Any](slug_field="username", read_only=True)
    slug = serializers.CharField(read_only=True, help_text="Its part of the page's address, in any script.")
    self = serializers.HyperlinkedIdentityField(view_name="post-detail", help_text="The post in the API.")
    url = serializers.HyperlinkedIdentityField(
        view_name="post-page", lookup_field="slug", help_text="The post's page, once it is published."
    )
    cover = serializers.SerializerMethodField()

    class Meta:
        model = Post
        fields = (
            "id", "self", "url", "author", "title", "slug", "body", "cover", "status", "published_at", "created_at",
            "updated_at",
        )  # fmt: skip
        read_only_fields = ("id", "self", "url", "author", "slug", "status", "published_at", "created_at", "updated_at")

    @extend_schema_field(
        serializers.DictField(child=serializers.URLField(), allow_null=True, help_text="Addresses by width in pixels.")
    )
    def get_cover(self, post: Post) -> dict[str, str] | None:
        return cover_urls(post, self.context["request"])


@extend_schema_serializer(
    examples=examples(
        response=PUBLISHED
        | {
            "tasks": [
                task_example(*NOTIFY),
                task_example("app.blog.tasks.reindex_post", "default"),
                task_example("app.blog.tasks.invalidate_caches", "default"),
            ]
        }
    )
)
class PublishedSerializer(PostSerializer):
    """A post and the tasks that its publication started."""

    tasks = TaskRunSerializer(many=True, read_only=True)

    class Meta(PostSerializer.Meta):
        fields = (*PostSerializer.Meta.fields, "tasks")  # type: ignore[assignment]  # a longer tuple


class PostFilterSerializer(serializers.Serializer[Post]):
    """What a list of posts may be narrowed to."""

    q = serializers.CharField(
        max_length=1000, required=False, allow_blank=True, help_text="Words to search title and body for; best first."
    )
    status = serializers.ChoiceField(choices=Post.Status.choices, required=False, help_text="Drafts are your own.")
    author = serializers.CharField(max_length=150, required=False, help_text="A user's name.")


tasks_about("post", "post-detail", notify_subscribers, reindex_post, invalidate_caches)
tasks_about(
    "post",
    "post-detail",
    resize_cover,
    key=lambda cover: Cover.objects.filter(pk=cover).values_list("post", flat=True).first(),
)


class AuthorOrReadOnly(permissions.BasePermission):
    """Only the author and staff change a post."""

    def has_object_permission(self, request: Request, view: Any, obj: Post) -> bool:
        if request.method in permissions.SAFE_METHODS:
            return True
        return bool(request.user.is_staff or obj.author_id == request.user.pk)


class PostPagination(NewestFirst):
    """Newest first; of a search, best first."""

    def get_ordering(self, request: Request, queryset: QuerySet[Any], view: Any) -> tuple[str, ...]:
        return ("place",) if "place" in queryset.query.annotations else ("-id",)


def _in_order_of(ids: list[int], posts: QuerySet[Post]) -> QuerySet[Post]:
    """The posts with these ids, and their ``place`` among them, by which a cursor can go."""
    array = Value(ids, output_field=ArrayField(BigIntegerField()))
    place = Func(array, F("pk"), function="array_position", output_field=BigIntegerField())
    return posts.filter(pk__in=ids).annotate(place=place)


@extend_schema_view(
    list=extend_schema(summary="List posts"),
    retrieve=extend_schema(summary="Read a post"),
    create=extend_schema(summary="Write a post, as a draft", examples=examples(request=WRITTEN, response=DRAFT)),
    update=extend_schema(summary="Replace a post's text"),
    partial_update=extend_schema(summary="Change a post's text"),
    destroy=extend_schema(summary="Delete a post"),
)
class PostViewSet(ConditionalMixin, CoverActions, viewsets.ModelViewSet[Post]):
    """Posts: published ones for all, drafts for their author."""

    serializer_class = PostSerializer
    filter_serializer_class = PostFilterSerializer
    permission_classes = (permissions.IsAuthenticatedOrReadOnly, AuthorOrReadOnly)
    pagination_class = PostPagination
    throttle_scope: str | None = None

    def get_queryset(self) -> QuerySet[Post]:
        """What the user may see; the rest is not found."""
        visible = Q(status=Post.Status.PUBLISHED)
        if self.request.user.is_authenticated:
            visible |= Q(author=self.request.user.pk)
        posts = Post.objects.select_related("author").prefetch_related("covers").defer("search")
        return posts if self.request.user.is_staff else posts.filter(visible)

    def narrow(self, queryset: QuerySet[Post], fields: dict[str, Any]) -> QuerySet[Post]:
        """What a list asks for, in the words of the row."""
        if words := fields.pop("q", ""):
            queryset = _in_order_of(search.posts_find(words), queryset)
        if (author := fields.pop("author", None)) is not None:
            fields["author__username"] = author
        return queryset.filter(**fields)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        post = self.get_object()
        if post.status == Post.Status.PUBLISHED and request.method == "GET":
            record_view.delay(post.pk, timezone.now().isoformat())
        return Response(self.get_serializer(post).data)

    @idempotent
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().create(request, *args, **kwargs)

    def perform_create(self, serializer: serializers.BaseSerializer[Post]) -> None:
        serializer.instance = services.post_create(author=self.request.user, **serializer.validated_data)

    def perform_update(self, serializer: serializers.BaseSerializer[Post]) -> None:
        with transaction.atomic():
            post = serializer.save()
            if post.status == Post.Status.PUBLISHED:
                reindex_post.delay(post.pk)
                invalidate_caches.delay(post.pk)

    def perform_destroy(self, instance: Post) -> None:
        with transaction.atomic():
            if instance.status == Post.Status.PUBLISHED:
                reindex_post.delay(instance.pk)
            invalidate_caches.delay(instance.pk)
            instance.delete()

    @extend_schema(request=None, responses=PublishedSerializer)
    @action(detail=True, methods=["post"], throttle_classes=[ScopedRateThrottle], throttle_scope="publish")
    @idempotent
    def publish(self, request: Request, pk: str) -> Response:
        """Publish a post. Answered at once: telling subscribers, indexing and caches follow. Once is enough."""
        post = self.get_object()
        with transaction.atomic():
            started = []
            if services.post_publish(post_id=post.pk):
                started = [task.delay(post.pk) for task in (notify_subscribers, reindex_post, invalidate_caches)]
                if settings.SLACK_WEBHOOK_URL and apps.is_installed("app.integrations"):
                    text = f"{post.title} {settings.SITE_URL}{post.get_absolute_url()}"
                    # By name: this app does not know that one.
                    started.append(signature("app.integrations.tasks.notify_slack", [text]).delay())
        post.refresh_from_db()
        return Response({**self.get_serializer(post).data, "tasks": run_payloads(started, request)})


READER = {"email": "reader@example.com"}


@extend_schema_serializer(examples=examples(request=READER, response=READER))
class SubscriptionSerializer(serializers.Serializer[Any]):
    """An address to be told of new posts."""

    email = serializers.EmailField(max_length=254)


class SubscribeView(APIView):
    """Be told of new posts by mail. The answer does not tell whether the address was known."""

    permission_classes = (permissions.AllowAny,)
    authentication_classes = ()
    throttle_classes = (ScopedRateThrottle,)
    throttle_scope = "subscribe"

    @extend_schema(
        request=SubscriptionSerializer, responses={201: SubscriptionSerializer}, operation_id="subscriptions_create"
    )
    @idempotent
    def post(self, request: Request) -> Response:
        serializer = SubscriptionSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        services.subscription_start(**serializer.validated_data)
        return Response(serializer.data, status=201)
