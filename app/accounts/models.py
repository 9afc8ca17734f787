"""Users, their sign-ins, the addresses they sign in from, and rate limits."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.crypto import salted_hmac

from app.accounts.names import fold


class Users(UserManager["User"]):
    """Django's manager. It also finds a user by another case or Unicode form of the name."""

    use_in_migrations = False

    def get_by_natural_key(self, username: str | None) -> User:
        """Return the user who signs in with this name. Raises User.DoesNotExist."""
        name = username or ""
        found = self.filter(Q(username=name) | Q(username_key=fold(name)))
        # Two names that read alike may date from before names were folded. Each user keeps the name as written.
        exact = sorted(found, key=lambda user: user.username != name)
        if not exact:
            raise self.model.DoesNotExist
        return exact[0]


class User(AbstractUser):
    """Django's user. A verified e-mail address belongs to one user. Addresses that differ only in case are the same."""

    email = models.EmailField("e-mail address")
    email_verified_at = models.DateTimeField(null=True, blank=True, editable=False)
    username_key = models.CharField(max_length=600, null=True, unique=True, editable=False, help_text="Folded name.")
    sign_in_epoch = models.PositiveIntegerField(
        db_default=0, default=0, editable=False, help_text="Counts how often all sessions and tokens were ended."
    )

    objects: ClassVar[Users] = Users()

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(
                Lower("email"), name="user_verified_email_unique", condition=Q(email_verified_at__isnull=False)
            )
        ]
        indexes = [models.Index(Lower("email"), name="user_email")]

    def clean(self) -> None:
        """Refuse a name that reads like another user's. The constraint on the folded name decides races."""
        super().clean()
        if not self.username:  # The form has already refused the empty name.
            return
        others = User.objects.exclude(pk=self.pk).filter(username_key=fold(self.username))
        is_new_name = not User.objects.filter(pk=self.pk, username=self.username).exists()
        if is_new_name and others.exists():
            raise ValidationError({"username": "A user with that username already exists."})

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the user and keep the folded name in step with the name."""
        names = kwargs.get("update_fields")
        if names is None or "username" in names:
            key = fold(self.username)
            is_alike = self.username_key is None and User.objects.filter(username_key=key).exists()
            if self._state.adding or not is_alike:
                self.username_key = key
            if names is not None:
                kwargs["update_fields"] = {*names, "username_key"}
        super().save(*args, **kwargs)

    def _get_session_auth_hash(self, secret: Any = None) -> str:
        """Return Django's hash, extended by ``sign_in_epoch``, so that a new epoch ends all sessions."""
        ended = f"/{self.sign_in_epoch}" if self.sign_in_epoch else ""
        return salted_hmac(
            "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash",
            self.password + ended,
            secret=secret,
            algorithm="sha256",
        ).hexdigest()

    def token_key(self) -> str:
        """Return the digest that a valid token carries. A new password or a new ``sign_in_epoch`` changes it."""
        return salted_hmac("app.accounts.token", self.get_session_auth_hash(), algorithm="sha256").hexdigest()[:32]


class SignIn(models.Model):
    """A sign-in at the API: the family of tokens that began with it. Deleting the row ends them all."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sign_ins")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.user_id} at {self.created_at}"


class KnownAddress(models.Model):
    """An address from which a user has signed in. Wrong passwords from elsewhere do not lock this address out."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="known_addresses", db_index=False)
    address = models.CharField(max_length=64, help_text="HMAC of the address.")
    seen_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "address"], name="known_address_once")]

    def __str__(self) -> str:
        return f"of {self.user_id}"


class Limit(models.Model):
    """The fill level of a rate limit, stored as the time at which all counted actions will have expired."""

    key = models.CharField(max_length=64, primary_key=True, help_text="HMAC of what is counted.")
    until = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.key
