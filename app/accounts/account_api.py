"""The API of a user's own account: password, e-mail address, signing out everywhere, and deletion."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import transaction
from drf_spectacular.utils import extend_schema, extend_schema_serializer
from rest_framework import exceptions, generics, permissions, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle
from rest_framework.views import APIView

from app.accounts import services
from app.accounts.actions import ask_for_reset, confirm_email, set_password
from app.accounts.api import PASSWORD, NotStored, UserSerializer
from app.accounts.links import LONGEST, BadLink
from app.accounts.models import User
from app.accounts.sign_in.limits import mail_allowed
from app.accounts.tasks import send_email_link, send_password_changed_email
from app.erasure import erase
from pressroom.http.idempotency import idempotent
from pressroom.http.openapi import examples

TOKEN = "eyJ1c2VyIjo0Mn0:1vXw3b:…"  # noqa: S105 - an example
NEW_PASSWORD = "another-horse-battery"  # noqa: S105 - an example
BAD_LINK = "This link is not valid. It has expired or has been used."
MAIL_SENT = {"detail": "If an account has this address, a mail is on its way to it."}


class _Password(serializers.CharField):
    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=128, write_only=True, trim_whitespace=False, **options)


@extend_schema_serializer(examples=examples(request={"password": PASSWORD, "new_password": NEW_PASSWORD}))
class PasswordChangeSerializer(serializers.Serializer[Any]):
    """The current and the new password."""

    password = _Password(help_text="The current password.")
    new_password = _Password()


@extend_schema_serializer(examples=examples(request={"email": "kim@example.com"}))
class AddressSerializer(serializers.Serializer[Any]):
    """The e-mail address of an account."""

    email = serializers.EmailField(max_length=254)


@extend_schema_serializer(examples=examples(request={"token": TOKEN, "new_password": NEW_PASSWORD}))
class PasswordResetSerializer(serializers.Serializer[Any]):
    """The token from the mail, and the new password."""

    token = serializers.CharField(max_length=LONGEST, help_text="The last part of the link in the mail.")
    new_password = _Password()


@extend_schema_serializer(examples=examples(request={"email": "kim@example.com", "password": PASSWORD}))
class EmailChangeSerializer(AddressSerializer):
    """The new address and the current password."""

    password = _Password()


@extend_schema_serializer(examples=examples(request={"token": TOKEN}))
class EmailConfirmSerializer(serializers.Serializer[Any]):
    """The token from the mail."""

    token = serializers.CharField(max_length=LONGEST, help_text="The last part of the link in the mail.")


@extend_schema_serializer(examples=examples(request={"password": PASSWORD}))
class PasswordSerializer(serializers.Serializer[Any]):
    """The current password."""

    password = _Password()


@extend_schema_serializer(examples=examples(response=MAIL_SENT))
class MailSentSerializer(serializers.Serializer[Any]):
    """Confirmation that the request was accepted. It does not reveal whether an account has the address."""

    detail = serializers.CharField(read_only=True)


class _AccountView(NotStored, APIView):
    """Base of the views that require a signed-in user."""

    permission_classes: tuple[Any, ...] = (permissions.IsAuthenticated,)
    throttle_classes: tuple[Any, ...] = (ScopedRateThrottle,)
    throttle_scope = "account"


class _LinkView(_AccountView):
    """Base of the views that need no sign-in, because the token from the mail is the proof of identity."""

    permission_classes = (permissions.AllowAny,)
    authentication_classes = ()


def read(serializer: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """Return the validated body of the request. Raises ValidationError."""
    found = serializer(data=request.data)
    found.is_valid(raise_exception=True)
    return dict(found.validated_data)


def checked_user(request: Request, password: str) -> User:
    """Return the signed-in user if ``password`` is theirs.

    Failed tries count towards the limits of signing in. Do not call this in a transaction: a rollback would remove
    the count. Raises ValidationError and Throttled.
    """
    assert isinstance(request.user, User)
    user = authenticate(request._request, username=request.user.username, password=password)
    if user is None or user.pk != request.user.pk:
        raise serializers.ValidationError({"password": "This is not your password."})
    assert isinstance(user, User)
    return user


class MeView(NotStored, generics.RetrieveAPIView[User]):
    """Retrieve your own account."""

    serializer_class = UserSerializer
    permission_classes = (permissions.IsAuthenticated,)

    def get_object(self) -> User:
        assert isinstance(self.request.user, User)
        return self.request.user


class PasswordChangeView(_AccountView):
    """Change your password. All tokens and sessions end, including those of this request. Sign in again afterwards."""

    @extend_schema(request=PasswordChangeSerializer, responses={204: None}, operation_id="auth_password_change")
    def post(self, request: Request) -> Response:
        data = read(PasswordChangeSerializer, request)
        user = checked_user(request, data["password"])
        try:
            with transaction.atomic():
                services.password_change(user=user, password=data["new_password"])
                send_password_changed_email.delay(user.pk)
        except DjangoValidationError as error:
            raise serializers.ValidationError({"new_password": error.messages}) from error
        return Response(status=status.HTTP_204_NO_CONTENT)


class PasswordForgottenView(_LinkView):
    """Request a mail with a link to set a new password. The answer does not reveal whether the address is known."""

    throttle_classes = ()  # ``reset_allowed`` counts the requests in Postgres.
    also_answers = (429,)

    @extend_schema(
        request=AddressSerializer, responses={202: MailSentSerializer}, operation_id="auth_password_forgotten"
    )
    @idempotent
    def post(self, request: Request) -> Response:
        ask_for_reset(request._request, read(AddressSerializer, request)["email"])
        return Response(MAIL_SENT, status=status.HTTP_202_ACCEPTED)


class PasswordResetView(_LinkView):
    """Set a new password with the token from a mail. All tokens, sessions and lock-outs of the account end.

    The token works once. It expires after an hour, or when the password or the address changes.
    """

    @extend_schema(request=PasswordResetSerializer, responses={204: None}, operation_id="auth_password_reset")
    def post(self, request: Request) -> Response:
        data = read(PasswordResetSerializer, request)
        try:
            set_password(request._request, token=data["token"], password=data["new_password"])
        except BadLink as error:
            raise serializers.ValidationError({"token": BAD_LINK}) from error
        except DjangoValidationError as error:
            raise serializers.ValidationError({"new_password": error.messages}) from error
        return Response(status=status.HTTP_204_NO_CONTENT)


class EmailChangeView(_AccountView):
    """Change your e-mail address. A mail with a link goes to the new address. Nothing changes until the link is used.

    If you give the current address, the link confirms it. The answer does not reveal whether another account has the
    address.
    """

    @extend_schema(request=EmailChangeSerializer, responses={202: MailSentSerializer}, operation_id="auth_email_change")
    def post(self, request: Request) -> Response:
        data = read(EmailChangeSerializer, request)
        user = checked_user(request, data["password"])
        email = User.objects.normalize_email(data["email"])
        with transaction.atomic():
            mail_allowed(email)
            send_email_link.delay(user.pk, email)
        return Response({"detail": "A mail is on its way to the address."}, status=status.HTTP_202_ACCEPTED)


class EmailConfirmView(_LinkView):
    """Confirm an e-mail address with the token from a mail. The token works once and expires after three days."""

    @extend_schema(request=EmailConfirmSerializer, responses={204: None}, operation_id="auth_email_confirm")
    def post(self, request: Request) -> Response:
        try:
            confirm_email(read(EmailConfirmSerializer, request)["token"])
        except BadLink as error:
            raise serializers.ValidationError({"token": BAD_LINK}) from error
        except services.AddressTaken as error:
            raise serializers.ValidationError({"token": "Another account has this address."}) from error
        return Response(status=status.HTTP_204_NO_CONTENT)


class LogoutEverywhereView(_AccountView):
    """Sign out everywhere. All tokens and sessions end, including those of this request."""

    @extend_schema(request=None, responses={204: None}, operation_id="auth_logout_everywhere")
    def post(self, request: Request) -> Response:
        assert isinstance(request.user, User)
        with transaction.atomic():
            services.sign_ins_end(request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)


class AccountDeleteView(_AccountView):
    """Delete your account permanently.

    This also deletes the account's posts with their covers and statistics, the subscriptions to them, its reports with
    their files, all tokens and sessions, and, if the address was confirmed, the subscriptions of that address. Task
    runs stay for the operators of the site, without an owner. Orders stay, because accounting records must be kept,
    under a name that identifies nobody. Only an admin can delete an account of the site's staff: such an account gets
    403.
    """

    @extend_schema(request=PasswordSerializer, responses={204: None}, operation_id="auth_delete")
    def post(self, request: Request) -> Response:
        user = checked_user(request, read(PasswordSerializer, request)["password"])
        if user.is_staff or user.is_superuser:
            raise exceptions.PermissionDenied("Only an admin can delete an account of the site's staff.")
        erase(user)
        return Response(status=status.HTTP_204_NO_CONTENT)
