"""The WSGI entry point: ``gunicorn app.wsgi``."""

import os
from importlib import import_module

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")

application = get_wsgi_application()

from django.conf import settings  # noqa: E402 - these need Django's set-up above

from pressroom.checks import refuse_misconfiguration  # noqa: E402
from pressroom.database.base import DatabaseWrapper  # noqa: E402

DatabaseWrapper.limit = settings.WEB_DATABASE_TIMEOUT
refuse_misconfiguration(exit_code=3)  # For gunicorn this means "failed to boot". With other codes it retries for ever.
# Load the routes once for all processes, instead of at the first request of each.
import_module(settings.ROOT_URLCONF)
