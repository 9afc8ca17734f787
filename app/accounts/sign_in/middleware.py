"""The page that Django's own views answer with after too many attempts. The API's views answer by themselves."""

from __future__ import annotations

import math
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from rest_framework.exceptions import Throttled


class ThrottledPageMiddleware:
    """Turns ``Throttled`` from a view, as the admin's sign-in raises it, into a page with 429 and ``Retry-After``."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, Throttled):
            return None
        wait = math.ceil(getattr(error, "wait", None) or 1)
        minutes = math.ceil(wait / 60)
        context = {"title": "Too many attempts", "text": f"Try again in {minutes} minute{'s' if minutes > 1 else ''}."}
        response = render(request, "accounts/message.html", context, status=429)
        response["Retry-After"] = str(wait)
        response["Cache-Control"] = "no-store"
        return response
