"""The ASGI entry point: ``uvicorn app.asgi:application``."""

from typing import Any

from django.core.asgi import get_asgi_application

# The same start: settings, checks, routes, and the time-out of a request's statements.
from app.wsgi import client_address

_django: Any = get_asgi_application()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Pass the request on to Django."""
    if scope.get("client"):
        host, port = scope["client"]
        scope = {**scope, "client": (client_address(host), port)}
    await _django(scope, receive, send)
