"""The rules of `app.http.permissions` for Django REST framework."""

from __future__ import annotations

from typing import Any

from rest_framework import permissions
from rest_framework.request import Request

from app.http.permissions import may


class OwnerOrPermitted(permissions.BasePermission):
    """The owner of an object, or who has the model's permission for what is done with it.

    What may not be seen at all is left out of the queryset.
    """

    owner = "owner"
    """The object's field that is its owner."""

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        is_owner = request.user.pk is not None and getattr(obj, f"{self.owner}_id") == request.user.pk
        return (is_owner and self.may_own(request.user, type(obj))) or may(request.user, verb_of(request, view), obj)

    def may_own(self, user: Any, model: Any) -> bool:
        """Whether the owner may do something with what is theirs."""
        return True


def verb_of(request: Request, view: Any) -> str:
    """Which of Django's four it takes to do it with an object that is another's."""
    if request.method in permissions.SAFE_METHODS:
        return "view"
    return "delete" if view.action == "destroy" else "change"
