"""Posts and subscribers in the admin."""

from django.contrib import admin

from app.blog.models import DailyViews, Delivery, Notification, Post, Subscriber


@admin.register(Post)
class PostAdmin(admin.ModelAdmin[Post]):
    list_display = ("title", "author", "status", "published_at")
    list_filter = ("status",)
    search_fields = ("title",)
    # Publishing starts work: that is the API's to do.
    readonly_fields = ("status", "published_at")
    raw_id_fields = ("author",)


@admin.register(Subscriber)
class SubscriberAdmin(admin.ModelAdmin[Subscriber]):
    list_display = ("email", "active", "created_at")
    list_filter = ("active",)
    search_fields = ("email",)
    show_full_result_count = False


@admin.register(Delivery)
class DeliveryAdmin(admin.ModelAdmin[Delivery]):
    list_display = ("post", "subscriber", "at", "refused")
    list_select_related = ("post", "subscriber")
    raw_id_fields = ("post", "subscriber")
    show_full_result_count = False


@admin.register(Notification)
class NotificationAdmin(admin.ModelAdmin[Notification]):
    list_display = ("post", "told", "total", "rounds", "started_at")
    list_select_related = ("post",)
    readonly_fields = ("post", "total", "told", "position", "put_off_from", "rounds", "started_at")


@admin.register(DailyViews)
class DailyViewsAdmin(admin.ModelAdmin[DailyViews]):
    list_display = ("day", "post", "views")
    list_select_related = ("post",)
    raw_id_fields = ("post",)
    date_hierarchy = "day"
    show_full_result_count = False
