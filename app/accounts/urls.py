"""Routes under ``/api/auth/`` and of the pages that links in mails lead to."""

from django.urls import path

from app.accounts import pages
from app.accounts.account_api import (
    AccountDeleteView,
    EmailChangeView,
    EmailConfirmView,
    LogoutEverywhereView,
    MeView,
    PasswordChangeView,
    PasswordForgottenView,
    PasswordResetView,
)
from app.accounts.api import LoginView, LogoutView, RefreshView, RegisterView

urlpatterns = [
    path("api/auth/register/", RegisterView.as_view(), name="register"),
    path("api/auth/login/", LoginView.as_view(), name="login"),
    path("api/auth/refresh/", RefreshView.as_view(), name="refresh"),
    path("api/auth/logout/", LogoutView.as_view(), name="logout"),
    path("api/auth/logout/everywhere/", LogoutEverywhereView.as_view(), name="logout-everywhere"),
    path("api/auth/me/", MeView.as_view(), name="me"),
    path("api/auth/password/change/", PasswordChangeView.as_view(), name="api-password-change"),
    path("api/auth/password/forgotten/", PasswordForgottenView.as_view(), name="api-password-forgotten"),
    path("api/auth/password/reset/", PasswordResetView.as_view(), name="api-password-reset"),
    path("api/auth/email/change/", EmailChangeView.as_view(), name="api-email-change"),
    path("api/auth/email/confirm/", EmailConfirmView.as_view(), name="api-email-confirm"),
    path("api/auth/delete/", AccountDeleteView.as_view(), name="api-account-delete"),
    # The admin's login page links to a view of this name.
    path("account/password/", pages.password_forgotten, name="admin_password_reset"),
    path("account/password/<str:token>/", pages.password_reset, name="password-reset-confirm"),
    path("account/email/<str:token>/", pages.email_confirm, name="email-confirm"),
]
