"""How long a worker waits for a Redis that says nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from django.conf import settings
from kombu import Connection


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where a new connection gets no answer, as at the address of a pod that is gone: its backlog is full."""
    with ExitStack() as open_ones:
        server = open_ones.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            client = open_ones.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@pytest.mark.slow
def test_a_redis_that_does_not_answer_a_new_connection_is_given_up(silent: int) -> None:
    connection = Connection(f"redis://127.0.0.1:{silent}/0", transport_options=settings.CELERY_BROKER_TRANSPORT_OPTIONS)
    begun = time.monotonic()
    with pytest.raises(connection.connection_errors, match="Timeout connecting"):
        connection.connect()
    # Three tries of 2 s; without a limit of ours the kernel takes 130 s for each.
    assert time.monotonic() - begun < 60
