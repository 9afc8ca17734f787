"""``gunicorn tests.support.probes.wsgi``: the site with the routes of ``tests.support.probes.urls``."""

from django.conf import settings

settings.ROOT_URLCONF = "tests.support.probes.urls"

from app.wsgi import application  # noqa: E402

__all__ = ["application"]
