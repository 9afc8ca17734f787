"""The rules of `app.http.permissions` as permission classes of Django REST framework."""

from __future__ import annotations

from typing import Any

from rest_framework import permissions
from rest_framework.request import Request

from app.http.permissions import may


class OwnerOrPermitted(permissions.BasePermission):
    """Allows the owner of an object, and users with the model's permission for the action.

    The view's queryset must leave out objects that the user may not see at all.
    """

    owner = "owner"
    """Name of the object's field that holds its owner."""

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        is_owner = request.user.pk is not None and getattr(obj, f"{self.owner}_id") == request.user.pk
        return (is_owner and self.may_own(request.user, type(obj))) or may(request.user, verb_of(request, view), obj)

    def may_own(self, user: Any, model: Any) -> bool:
        """Whether the owner may act on their own objects."""
        return True


def verb_of(request: Request, view: Any) -> str:
    """Return which of "view", "change" and "delete" a request needs for an object of somebody else."""
    if request.method in permissions.SAFE_METHODS:
        return "view"
    return "delete" if view.action == "destroy" else "change"
