"""What users do with their own account, over HTTP: password, address, signing out everywhere, its end."""

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
BAD_LINK = "This link is not valid: it is too old, or was used."
MAIL_SENT = {"detail": "If this address is known, a mail is on its way to it."}


class _Password(serializers.CharField):
    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=128, write_only=True, trim_whitespace=False, **options)


@extend_schema_serializer(examples=examples(request={"password": PASSWORD, "new_password": NEW_PASSWORD}))
class PasswordChangeSerializer(serializers.Serializer[Any]):
    password = _Password(help_text="The one until now.")
    new_password = _Password()


@extend_schema_serializer(examples=examples(request={"email": "kim@example.com"}))
class AddressSerializer(serializers.Serializer[Any]):
    email = serializers.EmailField(max_length=254)


@extend_schema_serializer(examples=examples(request={"token": TOKEN, "new_password": NEW_PASSWORD}))
class PasswordResetSerializer(serializers.Serializer[Any]):
    token = serializers.CharField(max_length=LONGEST, help_text="The last part of the mail's link.")
    new_password = _Password()


@extend_schema_serializer(examples=examples(request={"email": "kim@example.com", "password": PASSWORD}))
class EmailChangeSerializer(AddressSerializer):
    password = _Password()


@extend_schema_serializer(examples=examples(request={"token": TOKEN}))
class EmailConfirmSerializer(serializers.Serializer[Any]):
    token = serializers.CharField(max_length=LONGEST, help_text="The last part of the mail's link.")


@extend_schema_serializer(examples=examples(request={"password": PASSWORD}))
class PasswordSerializer(serializers.Serializer[Any]):
    password = _Password()


@extend_schema_serializer(examples=examples(response=MAIL_SENT))
class MailSentSerializer(serializers.Serializer[Any]):
    """Says nothing of whether the address is known."""

    detail = serializers.CharField(read_only=True)


class _AccountView(NotStored, APIView):
    """Of the user who is signed in."""

    permission_classes: tuple[Any, ...] = (permissions.IsAuthenticated,)
    throttle_classes: tuple[Any, ...] = (ScopedRateThrottle,)
    throttle_scope = "account"


class _LinkView(_AccountView):
    """For anybody who has the mail."""

    permission_classes = (permissions.AllowAny,)
    authentication_classes = ()


def read(serializer: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """The request's body. Raises ValidationError."""
    found = serializer(data=request.data)
    found.is_valid(raise_exception=True)
    return dict(found.validated_data)


def checked_user(request: Request, password: str) -> User:
    """The user, whose password this is; tries are counted with those to sign in. Not in a transaction.

    Raises ValidationError and Throttled.
    """
    assert isinstance(request.user, User)
    user = authenticate(request._request, username=request.user.username, password=password)
    if user is None or user.pk != request.user.pk:
        raise serializers.ValidationError({"password": "This is not your password."})
    assert isinstance(user, User)
    return user


class MeView(NotStored, generics.RetrieveAPIView[User]):
    """Read your own account."""

    serializer_class = UserSerializer
    permission_classes = (permissions.IsAuthenticated,)

    def get_object(self) -> User:
        assert isinstance(self.request.user, User)
        return self.request.user


class PasswordChangeView(_AccountView):
    """Set a new password. All tokens and sessions end, those of this request too: sign in again."""

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
    """Have a link mailed that sets a new password. The answer does not tell whether the address is known."""

    throttle_classes = ()  # counted in Postgres
    also_answers = (429,)

    @extend_schema(
        request=AddressSerializer, responses={202: MailSentSerializer}, operation_id="auth_password_forgotten"
    )
    @idempotent
    def post(self, request: Request) -> Response:
        ask_for_reset(request._request, read(AddressSerializer, request)["email"])
        return Response(MAIL_SENT, status=status.HTTP_202_ACCEPTED)


class PasswordResetView(_LinkView):
    """Set a new password by the token of a mail's link. All tokens and sessions end; a lock-out ends, too.

    The token is good once, for an hour, and until password or address change.
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
    """Have a link mailed to a new address, which becomes the account's by it. Until then nothing changes.

    With the present address the link confirms it. The answer does not tell whether another account has the address.
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
    """Take the address of a mail's link as the account's own. The token is good once, for three days."""

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
    """Sign out everywhere. All tokens and sessions end, those of this request too."""

    @extend_schema(request=None, responses={204: None}, operation_id="auth_logout_everywhere")
    def post(self, request: Request) -> Response:
        assert isinstance(request.user, User)
        with transaction.atomic():
            services.sign_ins_end(request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)


class AccountDeleteView(_AccountView):
    """Delete the account, for good.

    Its posts go, with covers and statistics; its reports, with their files; the subscription of its address, if the
    address was confirmed; all tokens and sessions. Its task runs stay for the site's operators and are nobody's. Its
    orders stay, as accounts must be kept, under a name that says nothing. An account of the site's staff is deleted by
    an admin: 403.
    """

    @extend_schema(request=PasswordSerializer, responses={204: None}, operation_id="auth_delete")
    def post(self, request: Request) -> Response:
        user = checked_user(request, read(PasswordSerializer, request)["password"])
        if user.is_staff or user.is_superuser:
            raise exceptions.PermissionDenied("An admin deletes the accounts of the site's staff.")
        erase(user)
        return Response(status=status.HTTP_204_NO_CONTENT)
