"""Background tasks for accounts. A task loads rows by id and calls a service."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import shared_task

from app.accounts import mails
from app.accounts.models import User
from app.accounts.services import tokens_cleanup
from app.mail.send import MailRefused
from app.mail.task_options import ONE_MAIL
from pressroom.context import current_run_id

logger = logging.getLogger(__name__)


def _mail(task: Any, user_ids: list[int], send: Callable[[list[User], str], None]) -> bool:
    """Send a mail to the users who still exist. Returns False if none does or the mail server refuses the mail."""
    users = list(User.objects.filter(pk__in=user_ids, is_active=True).order_by("pk"))
    if not users:
        logger.info("users %s no longer exist: no mail sent", user_ids)
        return False
    try:
        send(users, str(current_run_id() or task.request.id))
    except MailRefused as error:
        logger.warning("the mail to users %s was refused: %s", user_ids, error)
        return False
    return True


@shared_task(**ONE_MAIL)  # type: ignore[untyped-decorator]  # by the mapping
def send_welcome_email(self: Any, user_id: int) -> bool:
    """Welcome a new user. Returns whether a mail was sent."""
    return _mail(self, [user_id], lambda users, key: mails.welcome_send(user=users[0], key=key))


@shared_task(**ONE_MAIL)  # type: ignore[untyped-decorator]  # by the mapping
def send_email_link(self: Any, user_id: int, email: str) -> bool:
    """Ask the reader of an address to confirm that it is the user's. Returns whether a mail was sent."""
    return _mail(self, [user_id], lambda users, key: mails.email_link_send(user=users[0], email=email, key=key))


@shared_task(**ONE_MAIL)  # type: ignore[untyped-decorator]  # by the mapping
def send_password_reset_email(self: Any, user_ids: list[int]) -> bool:
    """Send one mail with reset links to users who share an address. Returns whether a mail was sent."""
    return bool(user_ids) and _mail(self, user_ids, lambda users, key: mails.password_reset_send(users=users, key=key))


@shared_task(**ONE_MAIL)  # type: ignore[untyped-decorator]  # by the mapping
def send_password_changed_email(self: Any, user_id: int) -> bool:
    """Notify a user that the password was changed. Returns whether a mail was sent."""
    return _mail(self, [user_id], lambda users, key: mails.password_changed_send(user=users[0], key=key))


@shared_task(**ONE_MAIL)  # type: ignore[untyped-decorator]  # by the mapping
def send_email_changed_email(self: Any, user_id: int, email: str) -> bool:
    """Notify a user's former address that it was replaced. Returns whether a mail was sent."""
    return _mail(self, [user_id], lambda users, key: mails.email_changed_send(user=users[0], email=email, key=key))


@shared_task(queue="default")
def cleanup_expired_tokens() -> int:
    """Delete expired tokens, idempotency keys and rate limits. Returns the number of deleted rows."""
    # These modules load Django REST framework, which few processes need.
    from app.accounts.sign_in.limits import limits_cleanup
    from pressroom.http.idempotency import keys_cleanup

    return tokens_cleanup() + keys_cleanup() + limits_cleanup()
