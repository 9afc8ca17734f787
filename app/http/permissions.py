"""Who may do what: one rule for the API and the admin, by Django's permissions.

``is_staff`` opens the admin's door and is no permission. What is one's own is open to its owner, as far as the view
says so; what is another's to who has the model's permission, which is the one that the admin asks for.
"""

from __future__ import annotations

from typing import Any


def may(user: Any, verb: str, model: Any) -> bool:
    """Whether the user has a model's permission: "view", "add", "change" or "delete". To change is to view, too."""
    label, name = model._meta.app_label, model._meta.model_name
    verbs = ("view", "change") if verb == "view" else (verb,)
    return any(user.has_perm(f"{label}.{one}_{name}") for one in verbs)
