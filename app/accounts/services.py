"""What is done with accounts. Knows nothing of HTTP and nothing of Celery."""

from __future__ import annotations

from django.conf import settings

from app.accounts.models import User
from app.mail import compose


def user_register(*, username: str, email: str, password: str) -> User:
    """A new user. Raises django.core.exceptions.ValidationError, by field, and IntegrityError on a lost race."""
    user = User(username=username, email=User.objects.normalize_email(email))
    user.set_password(password)
    user.full_clean()
    user.save()
    return user


def welcome_send(*, user: User, key: str) -> None:
    """Send the welcome mail; ``key`` names this mail for ever, so that a second copy is known as one.

    Raises OSError and smtplib.SMTPException when the mail server does not take it.
    """
    compose(
        template="accounts/welcome",
        context={"user": user, "site": settings.SITE_URL},
        to=user.email,
        key=f"welcome-{key}",
    ).send()
