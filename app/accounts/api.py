"""Registration and the user's own account, over HTTP. Sign-in is simplejwt's (see ``urls``)."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, transaction
from drf_spectacular.utils import extend_schema
from rest_framework import generics, permissions, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle
from rest_framework.views import APIView
from rest_framework_simplejwt.views import TokenObtainPairView

from app.accounts.models import User
from app.accounts.services import user_register
from app.accounts.tasks import send_welcome_email
from app.taskruns.api import TaskRunSerializer, run_payloads
from app.taskruns.ownership import owned_by


class UserSerializer(serializers.ModelSerializer[User]):
    """A user as themselves see it."""

    class Meta:
        model = User
        fields = ("id", "username", "email", "date_joined")
        read_only_fields = fields


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


class RegisteredSerializer(UserSerializer):
    """The new user, and the task of the welcome mail."""

    welcome_task = TaskRunSerializer(read_only=True)

    class Meta(UserSerializer.Meta):
        fields = (*UserSerializer.Meta.fields, "welcome_task")  # type: ignore[assignment]  # a longer tuple


class RegisterView(APIView):
    """Make an account. Answered at once; the welcome mail follows."""

    permission_classes = (permissions.AllowAny,)
    authentication_classes = ()
    throttle_classes = (ScopedRateThrottle,)
    throttle_scope = "register"

    @extend_schema(request=RegistrationSerializer, responses={201: RegisteredSerializer}, operation_id="auth_register")
    def post(self, request: Request) -> Response:
        serializer = RegistrationSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            with transaction.atomic():
                user = user_register(**serializer.validated_data)
                with owned_by(user):
                    welcome = send_welcome_email.delay(user.pk)
        except DjangoValidationError as error:
            raise serializers.ValidationError(serializers.as_serializer_error(error)) from error
        except IntegrityError as error:
            # Two at once with one name or address: the database let one through.
            raise serializers.ValidationError("This name or address was registered just now.") from error
        [task] = run_payloads([welcome], request)
        return Response({**UserSerializer(user).data, "welcome_task": task}, status=status.HTTP_201_CREATED)


class LoginView(TokenObtainPairView):
    """Name and password against an access and a refresh token."""

    throttle_classes = (ScopedRateThrottle,)
    throttle_scope = "login"


class MeView(generics.RetrieveAPIView[User]):
    """The user who asks."""

    serializer_class = UserSerializer
    permission_classes = (permissions.IsAuthenticated,)

    def get_object(self) -> User:
        assert isinstance(self.request.user, User)
        return self.request.user
