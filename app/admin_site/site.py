"""The admin's site: as Django's, but that signing in and out leads to pages that are there."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import REDIRECT_FIELD_NAME, authenticate
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import Resolver404, resolve, reverse
from django.utils.http import url_has_allowed_host_and_scheme


def is_page(request: HttpRequest, target: str) -> bool:
    """Whether a ``next`` names a page of this site. The admin's last route, which takes all that is left, is none."""
    if not target.startswith("/") or not url_has_allowed_host_and_scheme(target, {request.get_host()}):
        return False
    try:
        match = resolve(target.partition("?")[0].partition("#")[0])
    except (Resolver404, ValueError):
        return False
    return match.url_name is not None and match.view_name not in ("admin:login", "admin:logout")


class PressroomAdminSite(admin.AdminSite):
    """Any other ``next`` than a page of ours is the admin's first page."""

    site_header = site_title = "Pressroom"

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The page to sign in, and what it was filled in with."""
        _repair(request)
        return super().login(request, extra_context)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """A new password for the present one, at which whoever has the session may not guess without limit."""
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
