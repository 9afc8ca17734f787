"""Permission rules that the API and the admin share. They are based on Django's permissions.

``is_staff`` admits a user to the admin but grants no permission. Owners may act on their own objects as far as the view
allows. For the objects of others a user needs the model's permission, the same that the admin requires.
"""

from __future__ import annotations

from typing import Any


def may(user: Any, verb: str, model: Any) -> bool:
    """Whether the user has a model's permission: "view", "add", "change" or "delete". "change" includes "view"."""
    label, name = model._meta.app_label, model._meta.model_name
    verbs = ("view", "change") if verb == "view" else (verb,)
    return any(user.has_perm(f"{label}.{one}_{name}") for one in verbs)
