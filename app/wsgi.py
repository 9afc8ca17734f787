"""The WSGI entry point: ``gunicorn app.wsgi``."""

import os
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")

_django = get_wsgi_application()
_MAPPED = "::ffff:"


def client_address(address: str) -> str:
    """Return a client's IPv4 address as such.

    A socket for both families shows ``10.1.2.3`` as ``::ffff:10.1.2.3``. Limits and logs know one name for a client.
    """
    return address[len(_MAPPED) :] if address.lower().startswith(_MAPPED) and "." in address else address


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Pass the request on to Django."""
    if "REMOTE_ADDR" in environ:
        environ["REMOTE_ADDR"] = client_address(environ["REMOTE_ADDR"])
    return _django(environ, start_response)


from django.conf import settings  # noqa: E402 - these need Django's set-up above

from pressroom.checks import refuse_misconfiguration  # noqa: E402
from pressroom.database.base import DatabaseWrapper  # noqa: E402

DatabaseWrapper.limit = settings.WEB_DATABASE_TIMEOUT
refuse_misconfiguration(exit_code=3)  # For gunicorn this means "failed to boot". With other codes it retries for ever.
# Load the routes once for all processes, instead of at the first request of each.
import_module(settings.ROOT_URLCONF)
