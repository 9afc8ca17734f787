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
    """Django's user admin. Deleting an account does the same as the owner's own request to delete it."""

    actions = ("make_authors",)
    readonly_fields = ("email_verified_at",)
    fieldsets = (*(UserAdmin.fieldsets or ()), ("E-mail", {"fields": ("email_verified_at",)}))
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("username", "email", "password1", "password2")}),)

    @admin.action(description="Let the selected users publish", permissions=["change"])
    def make_authors(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Add the users to the group "Authors"."""
        for user in queryset:
            user_make_author(user)
        self.message_user(request, f"{len(queryset)} users may now publish.", messages.SUCCESS)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Save the user. An address that an admin has typed becomes unverified."""
        if change and "email" in form.changed_data:
            obj.email_verified_at = None
        super().save_model(request, obj, form, change)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """List what goes with each account. Orders are protected, but they stay, so they do not block the deletion."""
        summary = "with posts, reports and sessions; orders and task runs stay, without a name"
        return [f"{user} {summary}" for user in objs], {"users": len(objs)}, set(), []

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """Delete the account and everything that belongs to it."""
        erase(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Delete several accounts in the same way."""
        for user in queryset:
            erase(user)
