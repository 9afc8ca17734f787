"""The site's routes, a page that fails, and one that starts work."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from rest_framework.exceptions import NotFound
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from app.urls import urlpatterns as of_the_site
from pressroom.http.idempotency import idempotent
from pressroom.http.task_api import run_payloads
from tests.support.probes import tasks


def broken(request: HttpRequest, **_: Any) -> HttpResponse:
    raise RuntimeError("a bug")


class StartView(APIView):
    """Starts so many tasks."""

    permission_classes = [IsAuthenticated]

    @idempotent
    def post(self, request: Request, count: int) -> Response:
        if not count:
            raise NotFound
        started = [tasks.effect.delay("/dev/null", str(number)) for number in range(count)]
        return Response({"tasks": run_payloads(started, request)})


async def wait(request: HttpRequest) -> HttpResponse:
    """Start a task and await what it returns."""
    result = await tasks.hold.adelay(request.GET["effects"], "awaited", request.GET["gate"])
    return HttpResponse(f"{result.id} {await result.aget(timeout=240)}")


def traced(request: HttpRequest) -> HttpResponse:
    """Start a task that is to be traced."""
    return HttpResponse(tasks.traced.delay(request.GET["effects"], request.GET["gate"]).id)


urlpatterns = [
    path("traced/", traced),
    path("wait/", wait),
    path("broken/<str:token>/", broken),
    path("start/<int:count>/", StartView.as_view()),
    *of_the_site,
]
