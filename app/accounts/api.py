"""The API for registration, signing in and signing out. ``account_api`` holds what users do with their own account."""

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
# Header and claims are those of a real token. The signature is "…", so that nobody takes it for a leaked secret.
ACCESS = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ0b2tlbl90eXBlIjoiYWNjZXNzIiwidXNlcl9pZCI6IjQyIn0.…"
REFRESH = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCIsInVzZXJfaWQiOiI0MiJ9.…"
TOKENS = {"access": ACCESS, "refresh": REFRESH}
REGISTRATION_CLOSED = OpenApiResponse(
    {"$ref": "#/components/schemas/Problem"}, description="Registration is closed on this site."
)


class NotStored:
    """Mixin that keeps a view's answers, errors included, out of every cache. List it before the view class."""

    def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(*args, **kwargs)  # type: ignore[misc]  # the view's
        response["Cache-Control"] = "no-store"
        return response


@extend_schema_serializer(examples=examples(response=KIM | {"email_verified": True}))
class UserSerializer(serializers.ModelSerializer[User]):
    """Your own account, as the API shows it to you."""

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
    """User name, e-mail address and password of the new account."""

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
    """The new user and the task that sends the welcome mail."""

    welcome_task = TaskRunSerializer(read_only=True)

    class Meta(UserSerializer.Meta):
        fields = (*UserSerializer.Meta.fields, "welcome_task")  # type: ignore[assignment]  # a longer tuple


class RegisterView(NotStored, APIView):
    """Register an account. The answer comes at once; the welcome mail with a link to confirm the address follows.

    The answer is the same whether or not another account has the address. The address becomes this account's own when
    the link is used. Names that differ only in case or Unicode form count as the same name.

    If the site's `REGISTRATION` is `closed`, the answer is 403. If it is `authors`, the user may publish at once. If it
    is `open`, an admin must make the user an author first.
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
            raise exceptions.PermissionDenied("Registration is closed on this site.") from error
        except DjangoValidationError as error:
            raise serializers.ValidationError(serializers.as_serializer_error(error)) from error
        except IntegrityError as error:
            # Two requests registered one name at the same time, and the database accepted only one of them.
            raise serializers.ValidationError({"username": "This name has just been registered."}) from error
        [task] = run_payloads([welcome], request)
        return Response({**UserSerializer(user).data, "welcome_task": task}, status=status.HTTP_201_CREATED)


class LoginSerializer(TokenObtainPairSerializer):
    """User name and password."""

    token_class = RefreshToken


class RefreshSerializer(TokenRefreshSerializer):
    """A refresh token. Refreshing spends it."""

    token_class = RefreshToken

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        """Spend the token and return two new ones. A token spent before ends its sign-in. Raises TokenError."""
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
    """A refresh token. Signing out ends its sign-in."""

    token_class = RefreshToken

    def validate(self, attrs: dict[str, Any]) -> dict[Any, Any]:
        """Spend the token and end its sign-in. Raises TokenError."""
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
    """Sign in with name and password. Returns an access token and a refresh token.

    The API and the admin count failed sign-ins together, by account and by client address. After too many the answer
    is 429, even if the password is right, and `Retry-After` says when to try again. Failures elsewhere do not lock out
    an address from which the account has signed in before.
    """

    also_answers = (429,)
    serializer_class = LoginSerializer


@extend_schema(examples=examples(request={"refresh": REFRESH}, response=TOKENS))
class RefreshView(NotStored, TokenRefreshView):
    """Refresh a sign-in. Returns a new access token and a new refresh token.

    A refresh token works once. If it is used again, all tokens of its sign-in end.
    """

    serializer_class = RefreshSerializer


@extend_schema(examples=examples(request={"refresh": REFRESH}))
class LogoutView(NotStored, TokenBlacklistView):
    """Sign out. All tokens of this sign-in end at once."""

    serializer_class = LogoutSerializer
