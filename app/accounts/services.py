"""What is done with accounts. Knows nothing of HTTP and nothing of Celery."""

from __future__ import annotations

import secrets
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
"""Of one address that nobody has verified, to which a mail about a forgotten password gives links."""
AUTHORS = "Authors"
"""The group whose members publish; ``app/blog/migrations/0004_authors.py`` makes it."""
AUTHORS_MAY = ("blog", "add_post")
"""App and codename of the permission that the group is made with; an admin may give it more, or take it away."""


class RegistrationClosed(Exception):
    """The site takes no registrations."""


class AddressTaken(Exception):
    """Another account has verified this address. To be told to those alone who read its mail."""


def user_register(*, username: str, email: str, password: str) -> User:
    """A new user: an author where REGISTRATION says so; call it in a transaction.

    An address that another account has is no hindrance, and no answer tells of it: it is this account's once its
    owner follows the link in the mail.

    Raises RegistrationClosed; django.core.exceptions.ValidationError, by field; IntegrityError on a lost race.
    """
    if settings.REGISTRATION == "closed":
        raise RegistrationClosed
    user = User(username=User.normalize_username(username), email=User.objects.normalize_email(email))
    if is_deceptive(user.username):
        raise ValidationError({"username": "It mixes alphabets whose letters look alike, or has invisible letters."})
    user.set_password(password)
    user.full_clean()
    user.save()
    if settings.REGISTRATION == "authors":
        user_make_author(user)
    return user


def user_make_author(user: User) -> None:
    """Let the user publish: a member of the group "Authors". Does nothing twice."""
    group, made = Group.objects.get_or_create(name=AUTHORS)
    if made:  # an admin had deleted it
        app_label, codename = AUTHORS_MAY
        group.permissions.set(Permission.objects.filter(content_type__app_label=app_label, codename=codename))
    user.groups.add(group)


# ---- Sign-ins and passwords ------------------------------------------------------------------------------------------


def sign_ins_end(user: User) -> None:
    """End all sessions and tokens of the user, and the links in mails under way. Call it in a transaction."""
    User.objects.filter(pk=user.pk).update(sign_in_epoch=F("sign_in_epoch") + 1)
    SignIn.objects.filter(user=user).delete()


def password_change(*, user: User, password: str) -> None:
    """Set a new password, which ends all sessions and tokens; call it in a transaction. Raises ValidationError."""
    validate_password(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])
    SignIn.objects.filter(user=user).delete()


def password_reset(*, token: str, password: str) -> User:
    """Set a new password by a link. Raises BadLink, and ValidationError, which leaves the link good."""
    with transaction.atomic():
        user, _ = link_read(RESET, token, lock=True)
        password_change(user=user, password=password)
    return user


def users_of_address(email: str) -> list[int]:
    """Ids of those who may have forgotten a password: who has verified the address, or else who claims it."""
    folded = User.objects.alias(folded=Lower("email")).filter(folded=Lower(Value(email)))
    claimed = folded.filter(is_active=True).order_by("-pk")
    able = [user for user in claimed.only("password", "email_verified_at")[:BATCH] if user.has_usable_password()]
    verified = [user.pk for user in able if user.email_verified_at]
    return verified or [user.pk for user in able[:MOST_ACCOUNTS]]


# ---- Addresses -------------------------------------------------------------------------------------------------------


def email_confirm(*, token: str) -> tuple[User, str]:
    """Take the address of a link as the user's, verified. Returns the user and the address until then.

    Raises BadLink, and AddressTaken.
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


# ---- The end of an account -------------------------------------------------------------------------------------------


def account_erase(user: User) -> None:
    """Remove all that is personal; call it in a transaction.

    The row stays, without name, address and rights: orders and the admin's log point to it.
    """
    pk = user.pk
    sign_ins_end(user)
    OutstandingToken.objects.filter(user_id=pk).delete()
    KnownAddress.objects.filter(user_id=pk).delete()
    user.groups.clear()
    user.user_permissions.clear()
    # Not by save(): what else is removed looks at the user as they were.
    name = f"deleted-{pk}-{secrets.token_hex(4)}"
    User.objects.filter(pk=pk).update(
        username=name, username_key=name, email="", email_verified_at=None, first_name="", last_name="",
        password="!" + secrets.token_hex(20), last_login=None, is_active=False, is_staff=False, is_superuser=False,
    )  # fmt: skip


def tokens_cleanup() -> int:
    """Delete the refresh tokens and sign-ins that have expired, in batches. Returns how many rows."""
    now, deleted = timezone.now(), 0
    expired: tuple[QuerySet[Any], ...] = (
        OutstandingToken.objects.filter(expires_at__lte=now),
        SignIn.objects.filter(expires_at__lte=now),
    )
    for rows in expired:
        while batch := list(rows.values_list("pk", flat=True)[:BATCH]):
            rows.filter(pk__in=batch).delete()
            deleted += len(batch)
    return deleted


# ---- For reports: what other apps may ask for ------------------------------------------------------------------------


def users_by_day(*, start: datetime, end: datetime) -> dict[date, int]:
    """Accounts made from ``start`` on and before ``end``, by day."""
    new = User.objects.filter(date_joined__gte=start, date_joined__lt=end)
    by_day = new.annotate(day=TruncDate("date_joined")).values("day").annotate(count=Count("pk"))
    return dict(by_day.values_list("day", "count").order_by("day"))


def staff_to_mail() -> QuerySet[User]:
    """Active staff with an address."""
    return User.objects.filter(is_staff=True, is_active=True).exclude(email="").order_by("pk")
