"""A Redis by TLS whose authority is not as strict as RFC 5280, which Python refuses by default from 3.13 on."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings
from kombu import Connection
from kombu.exceptions import OperationalError

from app import celery  # the application has kombu use its transport
from pressroom.celery_app.result_backend import RedisLedgerBackend
from pressroom.database.redis import redis_client
from tests.support.certificates import certificates

STRICT, NOT_STRICT = (f"&ssl_{what}_verify_flags=VERIFY_X509_STRICT" for what in ("include", "exclude"))
"""Python 3.13 includes it by default. Included here, it makes every Python as strict."""


def ping_as_library(url: str) -> None:
    """As the relay, the exporter and web do."""
    redis_client(url, 5.0).ping()


def ping_as_kombu(url: str) -> None:
    """As workers do."""
    with Connection(url, transport_options={"socket_connect_timeout": 5, "socket_timeout": 5}) as connection:
        connection.default_channel.client.ping()


def ping_as_result_backend(url: str) -> None:
    """As workers do that copy results."""
    RedisLedgerBackend(app=celery.app, url=url).client.ping()


def pass_on(source: Any, sink: Any) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def serve(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """TLS in front of the Redis of the tests. Ends when the listener is closed."""
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        with suppress(OSError):  # a client that refuses the certificate
            client = context.wrap_socket(plain, server_side=True)
            server = socket.create_connection(("127.0.0.1", port))
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=pass_on, args=(one, other), daemon=True).start()


@pytest.fixture
def url(tmp_path: Path, redis_server: Any) -> Iterator[Callable[..., str]]:
    """The URL of a server by TLS that trusts the file ``authority``."""
    for folder in ("its own", "another"):
        (tmp_path / folder).mkdir()
        for name, text in certificates("localhost", strict=False).items():
            (tmp_path / folder / name).write_text(text)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "its own" / "tls.crt", tmp_path / "its own" / "tls.key")
    plain = urlsplit(settings.REDIS_URL)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener, context, plain.port))
        thread.start()
        start = f"rediss://:{plain.password}@localhost:{listener.getsockname()[1]}/0"

        def url_with(flags: str, authority: str = "its own") -> str:
            return f"{start}?ssl_cert_reqs=required&ssl_ca_certs={tmp_path / authority / 'ca.crt'}{flags}"

        yield url_with
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("ping", [ping_as_library, ping_as_kombu, ping_as_result_backend])
def test_such_an_authority_is_trusted_where_the_url_says_so(
    url: Callable[..., str], ping: Callable[[str], None]
) -> None:
    ping(url(STRICT + NOT_STRICT))
    with pytest.raises((redis.ConnectionError, OperationalError), match=r"(?i)certificate"):
        ping(url(STRICT))


@pytest.mark.parametrize("ping", [ping_as_library, ping_as_kombu, ping_as_result_backend])
def test_another_authority_is_not(url: Callable[..., str], ping: Callable[[str], None]) -> None:
    with pytest.raises((redis.ConnectionError, OperationalError), match=r"(?i)certificate"):
        ping(url(NOT_STRICT, "another"))
