"""Posts and subscribers in the admin."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest

from app.blog import changes
from app.blog.models import DailyViews, Delivery, Notification, Post, Subscriber, Subscription
from app.blog.subscriptions.services import addresses_delete
from pressroom.operations.read_only import ReadOnlyAdmin


@admin.register(Post)
class PostAdmin(admin.ModelAdmin[Post]):
    list_display = ("title", "author", "status", "published_at")
    list_filter = ("status",)
    search_fields = ("title",)
    # The "publish" action changes these, because publishing also starts tasks.
    readonly_fields = ("status", "published_at")
    raw_id_fields = ("author",)
    prepopulated_fields = {"slug": ("title",)}
    actions = ("publish",)

    @admin.action(description="Publish the selected posts", permissions=["change"])
    def publish(self, request: HttpRequest, queryset: QuerySet[Post]) -> None:
        published = 0
        for post in queryset.only("pk"):
            with suppress(Post.DoesNotExist):
                if changes.post_publish(post_id=post.pk):
                    published += 1
                    self.log_change(request, post, "published")
        posts = "1 post" if published == 1 else f"{published} posts"
        self.message_user(request, f"{posts} published. Mail, search and caches are updated in the background.")

    def save_model(self, request: HttpRequest, obj: Post, form: Any, change: bool) -> None:
        """Save only the fields that the form has changed. Somebody else may have changed the others in between."""
        if change:
            fields = {name: form.cleaned_data[name] for name in form.changed_data}
            try:
                changes.post_change(post_id=obj.pk, fields=fields)
            except Post.DoesNotExist as error:
                raise Http404("The post has been deleted.") from error
        else:
            super().save_model(request, obj, form, change)

    def delete_model(self, request: HttpRequest, obj: Post) -> None:
        changes.post_delete(post_id=obj.pk)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Post]) -> None:
        for post in queryset.only("pk"):
            changes.post_delete(post_id=post.pk)


@admin.register(Subscriber)
class SubscriberAdmin(admin.ModelAdmin[Subscriber]):
    list_display = ("email", "active", "switched_off", "created_at")
    list_filter = ("active",)
    search_fields = ("email",)
    show_full_result_count = False

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        # The records of its mails go with an address, though nobody may delete one of them alone.
        deleted, counts, _, protected = super().get_deleted_objects(objs, request)
        return deleted, counts, set(), protected

    def delete_model(self, request: HttpRequest, obj: Subscriber) -> None:
        addresses_delete(Subscriber.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Subscriber]) -> None:
        addresses_delete(queryset)


class StateFilter(admin.SimpleListFilter):
    """Whether a subscription counts, waits for its address to confirm, or has ended."""

    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("counts", "counts"),
            ("unconfirmed", "unconfirmed"),
            ("unsubscribed", "unsubscribed"),
            ("off", "address switched off"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> QuerySet[Subscription]:
        states = {
            "counts": Q(confirmed_at__isnull=False, unsubscribed_at__isnull=True, subscriber__active=True),
            "unconfirmed": Q(confirmed_at__isnull=True),
            "unsubscribed": Q(unsubscribed_at__isnull=False),
            "off": Q(subscriber__active=False),
        }
        return queryset.filter(states.get(self.value() or "", Q()))


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnlyAdmin[Subscription]):
    """Read-only, because only the owner of an address can confirm."""

    list_display = ("subscriber", "author", "confirmed_at", "unsubscribed_at")
    list_filter = (StateFilter,)
    list_select_related = ("subscriber", "author")
    search_fields = ("subscriber__email", "author__username")
    exclude = ("token",)
    show_full_result_count = False


@admin.register(Delivery)
class DeliveryAdmin(admin.ModelAdmin[Delivery]):
    list_display = ("post", "subscriber", "at", "refused")
    list_select_related = ("post", "subscriber")
    raw_id_fields = ("post", "subscriber")
    show_full_result_count = False


@admin.register(Notification)
class NotificationAdmin(admin.ModelAdmin[Notification]):
    list_display = ("post", "told", "total", "rounds", "started_at", "ended_at", "failure")
    list_select_related = ("post",)
    readonly_fields = (
        "post", "task", "total", "told", "position", "rounds", "started_at", "ended_at", "failure",
    )  # fmt: skip


@admin.register(DailyViews)
class DailyViewsAdmin(admin.ModelAdmin[DailyViews]):
    list_display = ("day", "post", "views")
    list_select_related = ("post",)
    raw_id_fields = ("post",)
    date_hierarchy = "day"
    show_full_result_count = False
