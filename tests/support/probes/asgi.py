"""``uvicorn tests.support.probes.asgi:application``: the site with the routes of ``tests.support.probes.urls``."""

from django.conf import settings

settings.ROOT_URLCONF = "tests.support.probes.urls"

from app.asgi import application  # noqa: E402

__all__ = ["application"]
