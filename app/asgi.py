"""The ASGI entry point: ``uvicorn app.asgi:application``."""

from django.core.asgi import get_asgi_application

# The same start: settings, checks, routes, and the time-out of a request's statements.
import app.wsgi  # noqa: F401

application = get_asgi_application()
