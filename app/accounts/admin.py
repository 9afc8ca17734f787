"""Users in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from app.accounts.models import User
from app.accounts.services import user_make_author
from app.erasure import erase


@admin.register(User)
class PressroomUserAdmin(UserAdmin[User]):
    """Django's. Deleting an account does what its owner's own request does."""

    actions = ("make_authors",)
    readonly_fields = ("email_verified_at",)
    fieldsets = (*(UserAdmin.fieldsets or ()), ("E-mail", {"fields": ("email_verified_at",)}))
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("username", "email", "password1", "password2")}),)

    @admin.action(description="Let the selected users publish", permissions=["change"])
    def make_authors(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Put them into the group "Authors"."""
        for user in queryset:
            user_make_author(user)
        self.message_user(request, f"{len(queryset)} may publish.", messages.SUCCESS)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """An address that an admin types is not verified by that."""
        if change and "email" in form.changed_data:
            obj.email_verified_at = None
        super().save_model(request, obj, form, change)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Orders, which stay, do not stand in the way."""
        told = "with posts, reports and sessions; orders and task runs stay, without a name"
        return [f"{user} {told}" for user in objs], {"users": len(objs)}, set(), []

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """Remove what is personal, and all that was the user's."""
        erase(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """The same for several."""
        for user in queryset:
            erase(user)
