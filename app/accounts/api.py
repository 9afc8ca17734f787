"""Registration and signing in and out, over HTTP. ``account_api`` has what a user does with their own account."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, transaction
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import exceptions, permissions, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle
from rest_framework.views import APIView
from rest_framework_simplejwt.serializers import (
    TokenBlacklistSerializer,
    TokenObtainPairSerializer,
    TokenRefreshSerializer,
)
from rest_framework_simplejwt.utils import datetime_from_epoch
from rest_framework_simplejwt.views import TokenBlacklistView, TokenObtainPairView, TokenRefreshView

from app.accounts.models import SignIn, User
from app.accounts.services import RegistrationClosed, user_register
from app.accounts.sign_in.limits import mail_allowed
from app.accounts.sign_in.tokens import RefreshToken, SpentToken, sign_in_end, token_user
from app.accounts.tasks import send_welcome_email
from app.http.problems import CONTENT_TYPE
from pressroom.enqueue.ownership import owned_by
from pressroom.http.idempotency import idempotent
from pressroom.http.openapi import examples
from pressroom.http.task_api import TaskRunSerializer, run_payloads, task_example

KIM = {"id": 42, "username": "kim", "email": "kim@example.com", "date_joined": "2026-03-02T09:00:00.397714+09:00"}
PASSWORD = "correct-horse-battery"  # noqa: S105 - an example
# Header and claims are those of a real token; with "…" for the signature nobody takes it for a secret that leaked.
ACCESS = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ0b2tlbl90eXBlIjoiYWNjZXNzIiwidXNlcl9pZCI6IjQyIn0.…"
REFRESH = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCIsInVzZXJfaWQiOiI0MiJ9.…"
TOKENS = {"access": ACCESS, "refresh": REFRESH}
REGISTRATION_CLOSED = OpenApiResponse(
    {"$ref": "#/components/schemas/Problem"}, description="The site takes no registrations."
)


class NotStored:
    """Before a view's own class: no cache keeps what it answers, errors included."""

    def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(*args, **kwargs)  # type: ignore[misc]  # the view's
        response["Cache-Control"] = "no-store"
        return response


@extend_schema_serializer(examples=examples(response=KIM | {"email_verified": True}))
class UserSerializer(serializers.ModelSerializer[User]):
    """A user as themselves see it."""

    email_verified = serializers.SerializerMethodField()

    class Meta:
        model = User
        fields = ("id", "username", "email", "email_verified", "date_joined")
        read_only_fields = fields

    def get_email_verified(self, user: User) -> bool:
        return user.email_verified_at is not None


@extend_schema_serializer(
    examples=examples(request={"username": "kim", "email": "kim@example.com", "password": PASSWORD})
)
class RegistrationSerializer(serializers.Serializer[User]):
    """What it takes to register."""

    username = serializers.CharField(max_length=150)
    email = serializers.EmailField(max_length=254)
    password = serializers.CharField(max_length=128, write_only=True, trim_whitespace=False)

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        try:
            validate_password(data["password"], User(username=data["username"], email=data["email"]))
        except DjangoValidationError as error:
            raise serializers.ValidationError({"password": error.messages}) from error
        return data


@extend_schema_serializer(
    examples=examples(
        response=KIM
        | {"email_verified": False}
        | {"welcome_task": task_example("app.accounts.tasks.send_welcome_email", "emails")}
    )
)
class RegisteredSerializer(UserSerializer):
    """The new user, and the task of the welcome mail."""

    welcome_task = TaskRunSerializer(read_only=True)

    class Meta(UserSerializer.Meta):
        fields = (*UserSerializer.Meta.fields, "welcome_task")  # type: ignore[assignment]  # a longer tuple


class RegisterView(NotStored, APIView):
    """Make an account. Answered at once; the welcome mail follows, with a link that confirms the address.

    The answer is the same whether or not another account has the address: it becomes this account's own by the link.
    Names that differ in case or form alone are one name.

    Where the site's `REGISTRATION` is `closed` the answer is 403. Where it is `authors` the user may publish, where it
    is `open` only once an admin has made them an author.
    """

    permission_classes = (permissions.AllowAny,)
    authentication_classes = ()
    throttle_classes = (ScopedRateThrottle,)
    throttle_scope = "register"

    @extend_schema(
        request=RegistrationSerializer,
        responses={201: RegisteredSerializer, (403, CONTENT_TYPE): REGISTRATION_CLOSED},
        operation_id="auth_register",
    )
    @idempotent
    def post(self, request: Request) -> Response:
        serializer = RegistrationSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            with transaction.atomic():
                user = user_register(**serializer.validated_data)
                mail_allowed(user.email)
                with owned_by(user):
                    welcome = send_welcome_email.delay(user.pk)
        except RegistrationClosed as error:
            raise exceptions.PermissionDenied("This site takes no registrations.") from error
        except DjangoValidationError as error:
            raise serializers.ValidationError(serializers.as_serializer_error(error)) from error
        except IntegrityError as error:
            # Two at once with one name: the database let one through.
            raise serializers.ValidationError({"username": "This name was registered just now."}) from error
        [task] = run_payloads([welcome], request)
        return Response({**UserSerializer(user).data, "welcome_task": task}, status=status.HTTP_201_CREATED)


class LoginSerializer(TokenObtainPairSerializer):
    """Name and password."""

    token_class = RefreshToken


class RefreshSerializer(TokenRefreshSerializer):
    """A refresh token, which this spends."""

    token_class = RefreshToken

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        """Raises TokenError; a spent token ends its sign-in."""
        try:
            refresh = self.token_class(attrs["refresh"])
            with transaction.atomic():
                token_user(refresh)
                refresh.spend()
                access = str(refresh.access_token)
                refresh.set_jti()
                refresh.set_exp()
                refresh.set_iat()
                refresh.outstand()
                SignIn.objects.filter(pk=refresh.get("sid")).update(expires_at=datetime_from_epoch(refresh["exp"]))
        except SpentToken as spent:
            sign_in_end(spent.sign_in)
            raise
        return {"access": access, "refresh": str(refresh)}


class LogoutSerializer(TokenBlacklistSerializer):
    """A refresh token, whose sign-in this ends."""

    token_class = RefreshToken

    def validate(self, attrs: dict[str, Any]) -> dict[Any, Any]:
        """Raises TokenError."""
        try:
            refresh = self.token_class(attrs["refresh"])
            refresh.blacklist()
        except SpentToken as spent:
            sign_in_end(spent.sign_in)
            raise
        sign_in_end(refresh.get("sid"))
        return {}


@extend_schema(examples=examples(request={"username": "kim", "password": PASSWORD}, response=TOKENS))
class LoginView(NotStored, TokenObtainPairView):
    """Sign in. Name and password against an access and a refresh token.

    Wrong passwords are counted by account and by address, at this door and at the admin's together: after too many the
    answer is 429, the password being right or wrong, and `Retry-After` says when to try again. An address that the
    account has signed in from is not locked out by others.
    """

    also_answers = (429,)
    serializer_class = LoginSerializer


@extend_schema(examples=examples(request={"refresh": REFRESH}, response=TOKENS))
class RefreshView(NotStored, TokenRefreshView):
    """Renew a sign-in. A refresh token against two new tokens.

    Each is good for one refresh: used again, it ends all of its sign-in.
    """

    serializer_class = RefreshSerializer


@extend_schema(examples=examples(request={"refresh": REFRESH}))
class LogoutView(NotStored, TokenBlacklistView):
    """Sign out. All tokens of this sign-in end, at once."""

    serializer_class = LogoutSerializer
