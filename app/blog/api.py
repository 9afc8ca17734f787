"""The API for posts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import transaction
from django.db.models import BigIntegerField, F, Func, Q, QuerySet, Value
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_serializer, extend_schema_view
from rest_framework import exceptions, permissions, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle

from app.blog import changes, search, services
from app.blog.covers_api import CoverActions, cover_urls
from app.blog.models import Cover, Notification, Post
from app.blog.tasks import invalidate_caches, notify_subscribers, record_view, reindex_post, resize_cover
from app.http.api_permissions import OwnerOrPermitted
from app.http.pagination import NewestFirst
from app.http.permissions import may
from pressroom.http.idempotency import idempotent
from pressroom.http.openapi import examples
from pressroom.http.preconditions import ConditionalMixin
from pressroom.http.subjects import tasks_about
from pressroom.http.task_api import (
    POLL_AFTER,
    CalledTaskSerializer,
    Conflict,
    TaskRunSerializer,
    called_payload,
    run_payloads,
    task_example,
)

WRITTEN = {"title": "Why queues need a ledger", "body": "A list forgets, a table does not."}
DRAFT = {
    "id": 7,
    "self": "https://press.example.com/api/posts/7/",
    "url": "https://press.example.com/posts/why-queues-need-a-ledger/",
    "author": "kim",
    **WRITTEN,
    "slug": "why-queues-need-a-ledger",
    "cover": None,
    "cover_upload": None,
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


class UploadSerializer(serializers.Serializer[Cover]):
    """An uploaded image that is still being resized, or that could not be resized and must be uploaded again."""

    status = serializers.SerializerMethodField()
    error = serializers.CharField(source="failure", help_text="Why resizing failed, or empty.")

    @extend_schema_field(serializers.ChoiceField(choices=["processing", "failed"]))
    def get_status(self, cover: Cover) -> str:
        return "failed" if cover.failure else "processing"


STOPPED = {
    "status": "stopped",
    "told": 300,
    "total": 1000,
    "error": "It was cancelled.",
    "started_at": "2026-03-02T09:00:00.431207+09:00",
    "ended_at": "2026-03-02T09:00:04.118903+09:00",
}


@extend_schema_serializer(examples=examples(response=STOPPED))
class NotificationSerializer(serializers.ModelSerializer[Notification]):
    """The progress of the mailing about a post."""

    status = serializers.ChoiceField(choices=["running", "stopped", "done"])
    error = serializers.CharField(source="failure", help_text="Why the mailing stopped, or empty.")
    started_at = serializers.DateTimeField(allow_null=True, help_text="When the mailing began; null before that.")

    class Meta:
        model = Notification
        fields = ("status", "told", "total", "error", "started_at", "ended_at")
        read_only_fields = fields
        extra_kwargs = {
            "told": {"help_text": "Number of mails that the mail server has accepted or refused."},
            "total": {"help_text": "Number of active subscribers when the mailing began."},
        }


@extend_schema_serializer(examples=examples(request=WRITTEN, response=PUBLISHED))
class PostSerializer(serializers.ModelSerializer[Post]):
    """A post."""

    author = serializers.SlugRelatedField[Any](
        slug_field="username", read_only=True, help_text="User name of the author."
    )
    slug = serializers.CharField(
        read_only=True, help_text="The post's part of the page's URL. It may contain letters of any script."
    )
    self = serializers.HyperlinkedIdentityField(view_name="post-detail", help_text="URL of the post in the API.")
    url = serializers.HyperlinkedIdentityField(
        view_name="post-page", lookup_field="slug", help_text="URL of the post's page, which is public once published."
    )
    cover = serializers.SerializerMethodField()
    cover_upload = UploadSerializer(read_only=True, allow_null=True)

    class Meta:
        model = Post
        fields = (
            "id", "self", "url", "author", "title", "slug", "body", "cover", "cover_upload", "status", "published_at",
            "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = ("id", "self", "url", "author", "slug", "status", "published_at", "created_at", "updated_at")

    @extend_schema_field(
        serializers.DictField(child=serializers.URLField(), allow_null=True, help_text="URLs by width in pixels.")
    )
    def get_cover(self, post: Post) -> dict[str, str] | None:
        return cover_urls(post, self.context["request"])


@extend_schema_serializer(
    examples=examples(
        response=PUBLISHED
        | {
            "tasks": [
                task_example("app.blog.tasks.notify_subscribers", "emails"),
                task_example("app.blog.tasks.reindex_post", "default"),
                task_example("app.blog.tasks.invalidate_caches", "default"),
            ]
        }
    )
)
class PublishedSerializer(PostSerializer):
    """A post and the tasks that publishing it started."""

    tasks = TaskRunSerializer(many=True, read_only=True)

    class Meta(PostSerializer.Meta):
        fields = (*PostSerializer.Meta.fields, "tasks")  # type: ignore[assignment]  # a longer tuple


class PostFilterSerializer(serializers.Serializer[Post]):
    """The filters of the list of posts."""

    q = serializers.CharField(
        max_length=500,
        required=False,
        allow_blank=True,
        help_text="Words to find in title and body. Best match first.",
    )
    status = serializers.ChoiceField(
        choices=Post.Status.choices, required=False, help_text="`draft` lists only drafts that you may see."
    )
    author = serializers.CharField(max_length=150, required=False, help_text="User name of the author.")


tasks_about("post", "post-detail", notify_subscribers, reindex_post, invalidate_caches)
tasks_about(
    "post",
    "post-detail",
    resize_cover,
    key=lambda cover: Cover.objects.filter(pk=cover).values_list("post", flat=True).first(),
)


class Authors(OwnerOrPermitted):
    """Everybody who can see a post may read it. Authors, who have the permission to add posts, may write their own.

    Writing a post of somebody else needs the permission to change or delete posts.
    """

    owner = "author"

    def has_permission(self, request: Request, view: Any) -> bool:
        return view.action != "create" or may(request.user, "add", Post)

    def has_object_permission(self, request: Request, view: Any, obj: Post) -> bool:
        is_read = request.method in permissions.SAFE_METHODS and view.action != "notification"
        return is_read or super().has_object_permission(request, view, obj)

    def may_own(self, user: Any, model: Any) -> bool:
        return may(user, "add", Post)


class PostPagination(NewestFirst):
    """Orders posts by newest first, and the results of a search by best match first."""

    def get_ordering(self, request: Request, queryset: QuerySet[Any], view: Any) -> tuple[str, ...]:
        return ("place",) if "place" in queryset.query.annotations else ("-id",)


def _in_order_of(ids: list[int], posts: QuerySet[Post]) -> QuerySet[Post]:
    """Return the posts with these ids, annotated with their ``place`` in the list for the cursor."""
    array = Value(ids, output_field=ArrayField(BigIntegerField()))
    place = Func(array, F("pk"), function="array_position", output_field=BigIntegerField())
    return posts.filter(pk__in=ids).annotate(place=place)


WRITERS = "Authors may do this with their own posts. With the posts of others it needs a permission."


@extend_schema_view(
    list=extend_schema(
        summary="List posts", description="List posts, newest first, or the results of a search, best match first."
    ),
    retrieve=extend_schema(
        summary="Retrieve a post",
        description="Retrieve a post. Drafts of others get 404, unless you may view all posts.",
    ),
    create=extend_schema(
        summary="Create a draft",
        description="Create a draft. This needs the permission to add posts.",
        examples=examples(request=WRITTEN, response=DRAFT),
    ),
    update=extend_schema(summary="Replace a post's text", description=f"Replace a post's title and body. {WRITERS}"),
    partial_update=extend_schema(
        summary="Change a post's text", description=f"Change a post's title or body. {WRITERS}"
    ),
    destroy=extend_schema(summary="Delete a post", description=f"Delete a post. {WRITERS}"),
)
class PostViewSet(ConditionalMixin, CoverActions, viewsets.ModelViewSet[Post]):
    """Published posts are visible to everybody, drafts only to their author and to users who may view all posts."""

    serializer_class = PostSerializer
    filter_serializer_class = PostFilterSerializer
    permission_classes = (permissions.IsAuthenticatedOrReadOnly, Authors)
    pagination_class = PostPagination
    throttle_scope: str | None = None

    def get_queryset(self) -> QuerySet[Post]:
        """Return the posts that the user may see. All others get 404."""
        visible = Q(status=Post.Status.PUBLISHED)
        if self.request.user.is_authenticated:
            visible |= Q(author=self.request.user.pk)
        posts = Post.objects.select_related("author").prefetch_related("covers").defer("search")
        return posts if may(self.request.user, "view", Post) else posts.filter(visible)

    def narrow(self, queryset: QuerySet[Post], fields: dict[str, Any]) -> QuerySet[Post]:
        """Apply the filters of a list."""
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
        assert serializer.instance is not None
        with found():
            fields = dict(serializer.validated_data)
            serializer.instance = changes.post_change(post_id=serializer.instance.pk, fields=fields)

    def perform_destroy(self, instance: Post) -> None:
        changes.post_delete(post_id=instance.pk)

    @extend_schema(request=None, responses=PublishedSerializer)
    @action(detail=True, methods=["post"], throttle_classes=[ScopedRateThrottle], throttle_scope="publish")
    @idempotent
    def publish(self, request: Request, pk: str) -> Response:
        """Publish a post. The answer comes at once. Tasks mail the subscribers and update search index and caches.

        Publishing a published post again changes nothing.
        """
        post = self.get_object()
        with found(), transaction.atomic():
            started = changes.post_publish(post_id=post.pk)
            post.refresh_from_db()
            return Response({**self.get_serializer(post).data, "tasks": run_payloads(started, request)})

    @extend_schema(responses=NotificationSerializer)
    @action(detail=True)
    def notification(self, request: Request, pk: str) -> Response:
        """Retrieve the progress of the mailing about a post. Only users who may change the post see it.

        A draft gets 404.
        """
        post = self.get_object()
        if post.status != Post.Status.PUBLISHED:
            raise exceptions.NotFound
        # The row does not exist before the task has started.
        row = Notification.objects.filter(post=post).first() or Notification(post=post, total=0)
        return Response(NotificationSerializer(row).data)

    @extend_schema(
        request=None,
        responses={202: CalledTaskSerializer},
        examples=examples(response=task_example("app.blog.tasks.notify_subscribers", "emails", repeated=False)),
    )
    @notification.mapping.post
    @idempotent
    def resume_notification(self, request: Request, pk: str) -> Response:
        """Resume a mailing that has stopped. No subscriber gets the mail twice.

        A mailing that has not stopped gets 409.
        """
        post = self.get_object()
        with transaction.atomic():
            started = changes.notification_restart(post_id=post.pk)
            if started is None:
                raise Conflict("The mailing has not stopped.")
            task = called_payload(started, request)
        headers = {"Location": task["url"], "Retry-After": str(POLL_AFTER)}
        return Response(task, status=status.HTTP_202_ACCEPTED, headers=headers)


@contextmanager
def found() -> Iterator[None]:
    """Turn Post.DoesNotExist into 404, for a post that was deleted after the view had looked it up."""
    try:
        yield
    except Post.DoesNotExist as error:
        raise exceptions.NotFound from error
