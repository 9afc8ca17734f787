"""Registration and the user's own account, over HTTP. Sign-in is simplejwt's (see ``urls``)."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, transaction
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import exceptions, generics, permissions, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle
from rest_framework.views import APIView
from rest_framework_simplejwt.views import TokenBlacklistView, TokenObtainPairView, TokenRefreshView

from app.accounts.models import User
from app.accounts.services import RegistrationClosed, user_register
from app.accounts.tasks import send_welcome_email
from app.openapi import examples
from app.problems import CONTENT_TYPE
from app.taskruns.api import TaskRunSerializer, run_payloads, task_example
from app.taskruns.idempotency import idempotent
from app.taskruns.ownership import owned_by

KIM = {"id": 42, "username": "kim", "email": "kim@example.com", "date_joined": "2026-03-02T09:00:00.397714+09:00"}
PASSWORD = "correct-horse-battery"  # noqa: S105 - an example
# Header and claims are those of a real token; with "…" for the signature nobody takes it for a secret that leaked.
ACCESS = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ0b2tlbl90eXBlIjoiYWNjZXNzIiwidXNlcl9pZCI6IjQyIn0.…"
REFRESH = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCIsInVzZXJfaWQiOiI0MiJ9.…"
TOKENS = {"access": ACCESS, "refresh": REFRESH}

REGISTRATION_CLOSED = OpenApiResponse(
    {"$ref": "#/components/schemas/Problem"}, description="The site takes no registrations."
)


@extend_schema_serializer(examples=examples(response=KIM))
class UserSerializer(serializers.ModelSerializer[User]):
    """A user as themselves see it."""

    class Meta:
        model = User
        fields = ("id", "username", "email", "date_joined")
        read_only_fields = fields


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
    examples=examples(response=KIM | {"welcome_task": task_example("app.accounts.tasks.send_welcome_email", "emails")})
)
class RegisteredSerializer(UserSerializer):
    """The new user, and the task of the welcome mail."""

    welcome_task = TaskRunSerializer(read_only=True)

    class Meta(UserSerializer.Meta):
        fields = (*UserSerializer.Meta.fields, "welcome_task")  # type: ignore[assignment]  # a longer tuple


class RegisterView(APIView):
    """Make an account. Answered at once; the welcome mail follows.

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
                with owned_by(user):
                    welcome = send_welcome_email.delay(user.pk)
        except RegistrationClosed as error:
            raise exceptions.PermissionDenied("This site takes no registrations.") from error
        except DjangoValidationError as error:
            raise serializers.ValidationError(serializers.as_serializer_error(error)) from error
        except IntegrityError as error:
            # Two at once with one name or address: the database let one through.
            raise serializers.ValidationError("This name or address was registered just now.") from error
        [task] = run_payloads([welcome], request)
        return Response({**UserSerializer(user).data, "welcome_task": task}, status=status.HTTP_201_CREATED)


@extend_schema(examples=examples(request={"username": "kim", "password": PASSWORD}, response=TOKENS))
class LoginView(TokenObtainPairView):
    """Name and password against an access and a refresh token."""

    throttle_classes = (ScopedRateThrottle,)
    throttle_scope = "login"


@extend_schema(examples=examples(request={"refresh": REFRESH}, response=TOKENS))
class RefreshView(TokenRefreshView):
    """A refresh token against two new tokens. Each is good for one refresh."""


@extend_schema(examples=examples(request={"refresh": REFRESH}))
class LogoutView(TokenBlacklistView):
    """Make a refresh token useless. An access token goes on for the minutes it has."""


class MeView(generics.RetrieveAPIView[User]):
    """The user who asks."""

    serializer_class = UserSerializer
    permission_classes = (permissions.IsAuthenticated,)

    def get_object(self) -> User:
        assert isinstance(self.request.user, User)
        return self.request.user
