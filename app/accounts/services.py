"""The business logic of accounts. It knows neither HTTP nor Celery."""

from __future__ import annotations

import secrets
import time
from datetime import date, datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Count, F, QuerySet, Value
from django.db.models.functions import Lower, TruncDate
from django.utils import timezone
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from app.accounts.links import EMAIL, RESET, link_read
from app.accounts.models import KnownAddress, SignIn, User
from app.accounts.names import is_deceptive

BATCH = 1_000
MOST_ACCOUNTS = 5
"""Maximum number of accounts that one reset mail covers, if none of them has verified the address."""
AUTHORS = "Authors"
"""The group whose members may publish. ``app/blog/migrations/0004_authors.py`` creates it."""
AUTHORS_MAY = ("blog", "add_post")
"""App label and codename of the permission that the group starts with. Admins may grant it more or revoke it."""


class RegistrationClosed(Exception):
    """Registration is closed on this site."""


class AddressTaken(Exception):
    """Another account has verified this address. Reveal this only to those who can read its mail."""


def user_register(*, username: str, email: str, password: str) -> User:
    """Create and return a user, as an author if REGISTRATION is ``authors``. Call this in a transaction.

    An address that another account has is accepted, and no answer reveals it. The address becomes this account's own
    when its owner follows the link in the mail.

    Raises RegistrationClosed, django.core.exceptions.ValidationError by field, and IntegrityError on a lost race.
    """
    if settings.REGISTRATION == "closed":
        raise RegistrationClosed
    user = User(username=User.normalize_username(username), email=User.objects.normalize_email(email))
    if is_deceptive(user.username):
        raise ValidationError({"username": "This name mixes alphabets that look alike or contains invisible letters."})
    user.set_password(password)
    user.full_clean()
    user.save()
    if settings.REGISTRATION == "authors":
        user_make_author(user)
    return user


def user_make_author(user: User) -> None:
    """Let the user publish by adding them to the group "Authors". Calling this again changes nothing."""
    group, made = Group.objects.get_or_create(name=AUTHORS)
    if made:  # An admin had deleted the group.
        app_label, codename = AUTHORS_MAY
        group.permissions.set(Permission.objects.filter(content_type__app_label=app_label, codename=codename))
    user.groups.add(group)


# ---- Sign-ins and passwords ------------------------------------------------------------------------------------------


def sign_ins_end(user: User) -> None:
    """End all sessions and tokens of the user, and all links in mails already sent. Call this in a transaction."""
    User.objects.filter(pk=user.pk).update(sign_in_epoch=F("sign_in_epoch") + 1)
    SignIn.objects.filter(user=user).delete()


def password_change(*, user: User, password: str) -> None:
    """Set a new password, which ends all sessions and tokens. Call this in a transaction. Raises ValidationError."""
    validate_password(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])
    SignIn.objects.filter(user=user).delete()


def password_reset(*, token: str, password: str) -> User:
    """Set a new password with a link's token. Raises BadLink and ValidationError; the latter keeps the link valid."""
    with transaction.atomic():
        user, _ = link_read(RESET, token, lock=True)
        password_change(user=user, password=password)
    return user


def users_of_address(email: str) -> list[int]:
    """Return the ids of the users who may reset a password through this address.

    This is the user who has verified the address. If nobody has, it is the newest users who claim it.
    """
    folded = User.objects.alias(folded=Lower("email")).filter(folded=Lower(Value(email)))
    claimed = folded.filter(is_active=True).order_by("-pk")
    able = [user for user in claimed.only("password", "email_verified_at")[:BATCH] if user.has_usable_password()]
    verified = [user.pk for user in able if user.email_verified_at]
    return verified or [user.pk for user in able[:MOST_ACCOUNTS]]


# ---- Addresses -------------------------------------------------------------------------------------------------------


def email_confirm(*, token: str) -> tuple[User, str]:
    """Make the address of a link the user's verified address. Returns the user and the previous address.

    Raises BadLink and AddressTaken.
    """
    with transaction.atomic():
        user, claims = link_read(EMAIL, token, lock=True)
        before = user.email
        user.email, user.email_verified_at = claims["email"], timezone.now()
        try:
            with transaction.atomic():
                user.save(update_fields=["email", "email_verified_at"])
        except IntegrityError as error:
            raise AddressTaken from error
    return user, before


# ---- Deletion of an account ------------------------------------------------------------------------------------------


def account_erase(user: User) -> None:
    """Remove all personal data of the user. Call this in a transaction.

    The row stays, without name, address and permissions, because orders and the admin's log refer to it.
    """
    pk = user.pk
    sign_ins_end(user)
    OutstandingToken.objects.filter(user_id=pk).delete()
    KnownAddress.objects.filter(user_id=pk).delete()
    user.groups.clear()
    user.user_permissions.clear()
    # An UPDATE leaves the instance as it was: the other apps' erasure still reads it.
    name = f"deleted-{pk}-{secrets.token_hex(4)}"
    User.objects.filter(pk=pk).update(
        username=name, username_key=name, email="", email_verified_at=None, first_name="", last_name="",
        password="!" + secrets.token_hex(20), last_login=None, is_active=False, is_staff=False, is_superuser=False,
    )  # fmt: skip


def tokens_cleanup(*, seconds: float = 240.0) -> int:
    """Delete expired refresh tokens and sign-ins in batches. Returns the number of deleted rows.

    Stops after about ``seconds``. The rest is for the next day.
    """
    now, deleted, deadline = timezone.now(), 0, time.monotonic() + seconds
    expired: tuple[QuerySet[Any], ...] = (
        OutstandingToken.objects.filter(expires_at__lte=now),
        SignIn.objects.filter(expires_at__lte=now),
    )
    for rows in expired:
        while batch := list(rows.values_list("pk", flat=True)[:BATCH]):
            rows.filter(pk__in=batch).delete()
            deleted += len(batch)
            if time.monotonic() >= deadline:
                return deleted
    return deleted


# ---- Queries for reports in other apps -------------------------------------------------------------------------------


def users_by_day(*, start: datetime, end: datetime) -> dict[date, int]:
    """Return the number of accounts created from ``start`` up to but not including ``end``, by day."""
    new = User.objects.filter(date_joined__gte=start, date_joined__lt=end)
    by_day = new.annotate(day=TruncDate("date_joined")).values("day").annotate(count=Count("pk"))
    return dict(by_day.values_list("day", "count").order_by("day"))


def staff_to_mail() -> QuerySet[User]:
    """Return active staff users who have an address."""
    return User.objects.filter(is_staff=True, is_active=True).exclude(email="").order_by("pk")
