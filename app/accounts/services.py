"""What is done with accounts. Knows nothing of HTTP and nothing of Celery."""

from __future__ import annotations

from datetime import date, datetime

from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.db.models import Count, QuerySet
from django.db.models.functions import TruncDate
from django.utils import timezone
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from app.accounts.models import User
from app.mail import compose, send

BATCH = 1_000
AUTHORS = "Authors"
"""The group whose members publish; ``app/blog/migrations/0004_authors.py`` makes it."""
AUTHORS_MAY = ("blog", "add_post")
"""App and codename of the permission that the group is made with; an admin may give it more, or take it away."""


class RegistrationClosed(Exception):
    """The site takes no registrations."""


def user_register(*, username: str, email: str, password: str) -> User:
    """A new user: an author where REGISTRATION says so; call it in a transaction.

    Raises RegistrationClosed; django.core.exceptions.ValidationError, by field; IntegrityError on a lost race.
    """
    if settings.REGISTRATION == "closed":
        raise RegistrationClosed
    user = User(username=username, email=User.objects.normalize_email(email))
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


def tokens_cleanup() -> int:
    """Delete the refresh tokens that have expired, blacklisted or not, in batches. Returns how many."""
    deleted = 0
    while batch := list(OutstandingToken.objects.filter(expires_at__lte=timezone.now()).values_list("pk")[:BATCH]):
        OutstandingToken.objects.filter(pk__in=[pk for (pk,) in batch]).delete()
        deleted += len(batch)
    return deleted


def welcome_send(*, user: User, key: str) -> None:
    """Send the welcome mail; ``key`` names this mail for ever, so that a second copy is known as one.

    Raises app.mail.MailUnavailable and MailPutOff where it may be tried again, MailRefused where not.
    """
    send(
        compose(
            template="accounts/welcome",
            context={"user": user, "site": settings.SITE_URL},
            to=user.email,
            key=f"welcome-{key}",
        )
    )


# ---- For reports: what other apps may ask for ------------------------------------------------------------------------


def users_by_day(*, start: datetime, end: datetime) -> dict[date, int]:
    """Accounts made from ``start`` on and before ``end``, by day."""
    new = User.objects.filter(date_joined__gte=start, date_joined__lt=end)
    by_day = new.annotate(day=TruncDate("date_joined")).values("day").annotate(count=Count("pk"))
    return dict(by_day.values_list("day", "count").order_by("day"))


def staff_to_mail() -> QuerySet[User]:
    """Active staff with an address."""
    return User.objects.filter(is_staff=True, is_active=True).exclude(email="").order_by("pk")
