"""The WSGI entry point: ``gunicorn app.wsgi``."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")

application = get_wsgi_application()

from app.checks import refuse_misconfiguration  # noqa: E402 - needs Django's set-up above

refuse_misconfiguration(exit_code=3)  # of gunicorn: "failed to boot". With any other it would try again forever
