"""The site's routes and a page that fails."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path

from app.urls import urlpatterns as of_the_site


def broken(request: HttpRequest, **_: Any) -> HttpResponse:
    raise RuntimeError("a bug")


urlpatterns = [path("broken/<str:token>/", broken), *of_the_site]
