"""What `app.wsgi`, `app.asgi` and gunicorn's configuration make of a connection."""

from __future__ import annotations

import asyncio
import runpy
import socket
from typing import Any
from unittest import mock

import pytest

from app import asgi, wsgi
from app.local.servers import PROJECT


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("::FFFF:10.1.2.3", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:a:b", "::ffff:a:b"),
        ("", ""),
    ],
)
def test_an_ipv4_client_has_one_name(address: str, seen: str) -> None:
    passed: list[dict[str, Any]] = []
    with mock.patch.object(wsgi, "_django", lambda environ, start: passed.append(environ) or [b""]):
        wsgi.application({"REMOTE_ADDR": address}, lambda *_: None)
    assert [environ["REMOTE_ADDR"] for environ in passed] == [seen]
    scopes: list[dict[str, Any]] = []

    async def receive_scope(scope: dict[str, Any], *_: Any) -> None:
        scopes.append(scope)

    with mock.patch.object(asgi, "_django", receive_scope):
        asyncio.run(asgi.application({"type": "http", "client": (address, 1)}, None, None))
        asyncio.run(asgi.application({"type": "http", "client": None}, None, None))
    assert [scope["client"] for scope in scopes] == [(seen, 1), None]


@pytest.mark.parametrize(("both", "bound"), [(True, "[::]:8000"), (False, "0.0.0.0:8000")])
def test_gunicorn_listens_on_what_the_machine_has(both: bool, bound: str) -> None:
    with mock.patch.object(socket, "has_dualstack_ipv6", return_value=both):
        assert runpy.run_path(str(PROJECT / "gunicorn.conf.py"))["bind"] == bound
