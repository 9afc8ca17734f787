"""The rules of `app.permissions` for Django REST framework."""

from __future__ import annotations

from typing import Any

from rest_framework import permissions
from rest_framework.request import Request

from app.permissions import may

NEEDED = {"GET": "view", "HEAD": "view", "OPTIONS": "view", "POST": "change", "PUT": "change", "PATCH": "change"}
"""By method, what it takes to do it to somebody else's; DELETE takes "delete"."""


class OwnerOrPermitted(permissions.BasePermission):
    """The owner of an object, or who has the model's permission for what is done with it.

    The object's owner is the user in its field ``owner``. What may not be seen at all is left out of the queryset.
    """

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        verb = NEEDED.get(request.method or "", "delete")
        return obj.owner_id == request.user.pk or may(request.user, verb, type(obj))
