"""Actions that the API and the pages share: a service call and the mail that follows, in one transaction."""

from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest

from app.accounts import services
from app.accounts.sign_in.limits import forgive, reset_allowed
from app.accounts.tasks import send_email_changed_email, send_password_changed_email, send_password_reset_email
from pressroom.enqueue.ownership import owned_by


def set_password(request: HttpRequest, *, token: str, password: str) -> None:
    """Set a new password with the token from a mail. Raises BadLink and Django's ValidationError."""
    with transaction.atomic():
        user = services.password_reset(token=token, password=password)
        with owned_by(user):
            send_password_changed_email.delay(user.pk)
        forgive(user, request)


def confirm_email(token: str) -> None:
    """Make the address from a mail's link the user's own. Raises BadLink and AddressTaken."""
    with transaction.atomic():
        user, before = services.email_confirm(token=token)
        if before and before != user.email:
            with owned_by(user):
                send_email_changed_email.delay(user.pk, before)


def ask_for_reset(request: HttpRequest, email: str) -> None:
    """Mail reset links to the accounts that have the address. Raises Throttled.

    An unknown address queues the same task, so that the answer does not reveal whether it is known.
    """
    with transaction.atomic():
        reset_allowed(email, request)
        send_password_reset_email.delay(services.users_of_address(email))
