"""The admin site: Django's, except that ``next`` after signing in or out must name an existing page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import REDIRECT_FIELD_NAME, authenticate
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import Resolver404, resolve, reverse
from django.utils.http import url_has_allowed_host_and_scheme


def is_page(request: HttpRequest, target: str) -> bool:
    """Whether a ``next`` names a page of this site. The admin's catch-all route does not count as a page."""
    if not target.startswith("/") or not url_has_allowed_host_and_scheme(target, {request.get_host()}):
        return False
    try:
        match = resolve(target.partition("?")[0].partition("#")[0])
    except (Resolver404, ValueError):
        return False
    return match.url_name is not None and match.view_name not in ("admin:login", "admin:logout")


class PressroomAdminSite(admin.AdminSite):
    """Django's admin site. A ``next`` that names no page of this site becomes the admin's index."""

    site_header = site_title = "Pressroom"

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show and process the sign-in form."""
        _repair(request)
        return super().login(request, extra_context)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Change the password. Limits tries of the old password, so that a stolen session cannot guess it."""
        if request.method == "POST" and request.user.is_authenticated:
            authenticate(request, username=request.user.get_username(), password=request.POST.get("old_password", ""))
        return super().password_change(request, extra_context)

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Sign out."""
        _repair(request)
        return super().logout(request, extra_context)


def _repair(request: HttpRequest) -> None:
    for name in ("GET", "POST"):
        given = getattr(request, name)
        if REDIRECT_FIELD_NAME in given and not is_page(request, given[REDIRECT_FIELD_NAME]):
            repaired = given.copy()
            repaired[REDIRECT_FIELD_NAME] = reverse("admin:index")
            setattr(request, name, repaired)
