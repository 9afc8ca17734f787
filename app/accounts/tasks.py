"""Slow work for accounts. A task fetches by id and calls a service."""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task

from app.accounts.models import User
from app.accounts.services import tokens_cleanup, welcome_send
from app.mail import MailPutOff, MailRefused, MailUnavailable
from app.taskruns.execution import current_run_id

logger = logging.getLogger(__name__)


@shared_task(
    bind=True, queue="emails", autoretry_for=(MailUnavailable, MailPutOff), max_retries=20, retry_backoff=True,
    retry_backoff_max=600,
)  # fmt: skip
def send_welcome_email(self: Any, user_id: int) -> bool:
    """Welcome a new user; tried for about an hour. Returns whether a mail was sent: not to who is gone or refused."""
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        logger.info("user %s is gone: no welcome mail", user_id)
        return False
    try:
        welcome_send(user=user, key=str(current_run_id() or self.request.id))
    except MailRefused as error:
        logger.warning("no welcome mail to user %s, refused: %s", user_id, error)
        return False
    return True


@shared_task(queue="default")
def cleanup_expired_tokens() -> int:
    """Delete expired refresh tokens, and idempotency keys past their day. Returns how many."""
    from app.taskruns.idempotency import keys_cleanup  # loads Django REST framework, which few processes need

    return tokens_cleanup() + keys_cleanup()
