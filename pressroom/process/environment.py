"""Settings from the environment variables that the Helm chart gives to every process: docs/adopt.md lists them.

A project's settings module imports this, so nothing here may need settings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

from django.core.exceptions import ImproperlyConfigured

DATABASE_OPTIONS: dict[str, int] = {
    "connect_timeout": 5,
    # A dead host does not answer. These detect it 10 s after something is sent to it, or after 20 s of waiting for it.
    "tcp_user_timeout": 10_000,  # ms
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}


def database() -> dict[str, Any]:
    """Return an entry of ``DATABASES`` for ``DATABASE_URL``, with the password of ``PGPASSWORD`` if it has none.

    Parameters of the URL, such as ``sslmode``, are libpq's. Raises ImproperlyConfigured.
    """
    import psycopg

    try:
        given = psycopg.conninfo.conninfo_to_dict(os.environ.get("DATABASE_URL", ""))
    except (psycopg.ProgrammingError, UnicodeEncodeError):
        # Without the URL, which may have a password.
        raise ImproperlyConfigured(
            "DATABASE_URL is not a URL of Postgres, such as postgres://user:password@host:5432/name."
        ) from None
    entry = {key.upper(): given.pop(key, "") for key in ("host", "port", "user", "password")}
    entry["NAME"] = given.pop("dbname", "")
    entry["PASSWORD"] = entry["PASSWORD"] or without_line_break(os.environ.get("PGPASSWORD", ""))
    return {"CONN_MAX_AGE": 60, **resilient({**entry, "OPTIONS": given})}


def resilient(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of ``DATABASES`` that stores calls, notices dead servers, and works through PgBouncer.

    That is PgBouncer in transaction mode: no server-side cursors, no prepared statements kept on a server connection.
    """
    return entry | {
        "ENGINE": "pressroom.database",
        "OPTIONS": DATABASE_OPTIONS | (entry.get("OPTIONS") or {}),
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "CONN_HEALTH_CHECKS": True,
    }


def redis(number: int = 0) -> str:
    """Return the URL of a database of ``REDIS_URL``, with ``REDIS_PASSWORD`` and the certificate file ``REDIS_CA``."""
    given = {name: os.environ.get(f"REDIS_{name}", "") for name in ("URL", "PASSWORD", "CA")}
    url = given["URL"] or "redis://127.0.0.1:6379"
    return redis_url(url, number, without_line_break(given["PASSWORD"]), given["CA"])


def redis_url(url: str, number: int, password: str = "", authority: str = "") -> str:
    """Return the URL of a server with the number of a database, a password and the file of a CA certificate.

    The password is for a URL that has none. The authority is trusted even if it is not strict. Raises
    ImproperlyConfigured if the URL is not that of a server, as it is with the number of a database of its own.
    """
    if not _is_server_of_redis(url):
        # Without the URL, which may have a password.
        raise ImproperlyConfigured(
            "REDIS_URL is not the URL of a server, such as redis://host:6379 or rediss://user@host:6379. It has no "
            "number of a database and no parameters: REDIS_CA names the certificate of an authority."
        )
    given = urlsplit(url)
    if authority and given.scheme != "rediss":
        raise ImproperlyConfigured("REDIS_CA is set, but REDIS_URL does not begin with rediss://, so nothing uses it.")
    user, _, host = given.netloc.rpartition("@")
    if password and not given.password:
        user = f"{user.removesuffix(':')}:{quote(password, safe='')}"
    trust = f"?ssl_cert_reqs=required&ssl_exclude_verify_flags=VERIFY_X509_STRICT&ssl_ca_certs={quote(authority)}"
    return f"{given.scheme}://{user}{'@' if user else ''}{host}/{number}{trust if authority else ''}"


def _is_server_of_redis(url: str) -> bool:
    try:
        given = urlsplit(url)
        names_server = bool(given.hostname) and given.port != 0
    except ValueError:
        return False
    is_rest_empty = given.path in ("", "/") and not given.query and not given.fragment
    # urlsplit leaves out some white space.
    return given.scheme in ("redis", "rediss") and names_server and is_rest_empty and not re.search(r"\s", url)


def without_line_break(password: str) -> str:
    """Return a password without the line break that `echo` and many editors add to the file of a secret."""
    return password.rstrip("\n")


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError
    return text == "1"


def _proxy_header(text: str) -> tuple[str, str] | None:
    return ("HTTP_X_FORWARDED_PROTO", "https") if _switch(text) else None


SETTINGS: dict[str, tuple[Callable[[str], object], str]] = {
    "SECRET_KEY": (str, "SECRET_KEY"),
    "ALLOWED_HOSTS": (_list, "ALLOWED_HOSTS"),
    "CSRF_TRUSTED_ORIGINS": (_list, "CSRF_TRUSTED_ORIGINS"),
    "SECURE_PROXY_SSL_HEADER": (_proxy_header, "TRUST_PROXY"),
    "CELERY_WORKER_SEND_TASK_EVENTS": (_switch, "CELERY_SEND_EVENTS"),
    "CELERY_TASK_SEND_SENT_EVENT": (_switch, "CELERY_SEND_EVENTS"),
    "TASKRUNS_HEARTBEAT": (float, "TASKRUNS_HEARTBEAT"),
    "TASKRUNS_SILENCE": (float, "TASKRUNS_SILENCE"),
    "TASKRUNS_GRACE": (float, "TASKRUNS_GRACE"),
    "TASKRUNS_CONTAINER": (str, "TASKRUNS_CONTAINER"),
    "TASKRUNS_ALIVE_FILE": (str, "ALIVE_FILE"),
    "TASKRUNS_METRICS_PORT": (int, "METRICS_PORT"),
}
"""By the name of a setting: how it is read, and from which variable."""


def from_chart() -> dict[str, Any]:
    """Return the settings of the variables that are set, for ``vars().update(…)`` in a settings module.

    Raises ImproperlyConfigured.
    """
    found = {}
    for setting, (read, variable) in SETTINGS.items():
        text = os.environ.get(variable, "").strip()
        if not text:
            continue
        try:
            found[setting] = read(text)
        except ValueError:
            kind = {float: "a number", int: "a whole number"}.get(read, "1 or 0")  # type: ignore[call-overload]
            raise ImproperlyConfigured(f"{variable} is {text[:80]!r}, not {kind}.") from None
    return found
