"""URLs that others have chosen reach public addresses only, whatever they resolve and redirect to."""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpcore
import pytest

from app.integrations.guard import Budget, GuardedBackend, Refused, is_allowed, system_resolve
from app.integrations.services import Unavailable, external_get
from tests.support.web import Asked, Exchange, Web, web

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]
OPEN_ONLY = [ipaddress.ip_network("127.0.0.1/32")]
"""127.0.0.1 stands for the world, 127.0.0.2 for what must not be reached."""


def greet(exchange: Exchange, asked: Asked) -> None:
    exchange.reply(200, b"hello")


@pytest.fixture
def world() -> Iterator[Web]:
    with web(greet) as server:
        yield server


@pytest.fixture
def inside(world: Web) -> Iterator[Web]:
    """A server on an address that is not to be reached, at the same port as the world's."""
    with web(greet, "127.0.0.2", world.port) as server:
        yield server


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("127.0.0.1", False),
        ("127.255.255.254", False),
        ("0.0.0.0", False),  # noqa: S104 - not bound to
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),  # carriers' NAT
        ("169.254.169.254", False),  # the clouds' metadata
        ("169.254.170.2", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fe80::1%1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),  # metadata, too
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("::ffff:8.8.8.8", True),
        ("2002:7f00:1::", False),  # 6to4 of 127.0.0.1
        ("64:ff9b::7f00:1", False),  # NAT64 of 127.0.0.1
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::808:808", True),
        ("2001:0:808:808::80ff:fffe", False),  # Teredo of 127.0.0.1
        ("64:ff9b:1::7f00:1", False),  # a network's own NAT64
        ("::127.0.0.1", False),
        ("fec0::1", False),  # site-local
        ("5f00::1", False),  # segment routing
        # Of IANA's registries, those that some releases of Python take for public.
        *((f"192.0.0.{last}", False) for last in (0, 8, 9, 10, 170, 255)),
        ("192.88.99.1", False),  # 6to4's relays
        ("192.31.196.1", False),
        ("192.52.193.1", False),
        ("192.175.48.1", False),
        ("240.0.0.1", False),
        ("2001:1::1", False),
        ("2001:2::1", False),
        ("2001:20::1", False),
        ("2001:30::1", False),
        ("2620:4f:8000::1", False),
        ("3fff::1", False),
        ("100::1", False),
        # And what stands for one.
        ("::ffff:192.0.0.9", False),
        ("2002:c058:6301::1", False),  # 6to4 of 192.88.99.1
        ("64:ff9b::c000:9", False),
        ("64:ff9b::192.88.99.1", False),
        ("2001:0:808:808::3fff:fff6", False),  # Teredo of 192.0.0.9
        # Their neighbours.
        ("191.255.255.255", True),
        ("192.0.1.1", True),
        ("192.88.98.255", True),
        ("192.88.100.0", True),
        ("223.255.255.255", True),
        ("2001:200::1", True),
        ("2003::1", True),
    ],
)
def test_which_addresses_are_public(address: str, expected: bool) -> None:
    assert is_allowed(ipaddress.ip_address(address), []) is expected


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "::1"])
def test_networks_that_are_let_through(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address), LOOPBACK)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_loopback_is_refused_however_it_is_written(world: Web, host: str) -> None:
    def resolve(name: str) -> list[str]:
        # As the system's resolver reads a number, which the tests' watch over other machines' names would not.
        return system_resolve(name) if name == "localhost" else [socket.inet_ntoa(socket.inet_aton(name))]

    with pytest.raises(Refused):
        external_get(url=f"http://{host}:{world.port}/", allowed=[], resolve=resolve)
    assert world.asked == []


def test_the_same_server_is_reached_where_its_network_is_allowed(world: Web) -> None:
    answer = external_get(url=f"http://localhost:{world.port}/path?q=1", allowed=LOOPBACK)
    assert (answer.status, answer.body) == (200, b"hello")
    assert (world.asked[0].path, world.asked[0].headers["host"]) == ("/path?q=1", f"localhost:{world.port}")


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "ftp://127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1:70/", "http://",
     "http://[::1", "http://127.0.0.1:x/", "http://h\x00st/"],
)  # fmt: skip
def test_what_is_no_url_of_the_web_is_refused(url: str) -> None:
    with pytest.raises(Refused):
        external_get(url=url, allowed=LOOPBACK)


@pytest.mark.parametrize("to", ["http://127.0.0.2:{port}/", "//127.0.0.2:{port}/", "http://[::ffff:127.0.0.2]:{port}/"])
def test_a_redirect_to_a_refused_address(world: Web, inside: Web, to: str) -> None:
    world.answer = lambda exchange, asked: exchange.reply(302, Location=to.format(port=world.port))
    with pytest.raises(Refused, match=r"127\.0\.0\.2"):
        external_get(url=world.url, allowed=OPEN_ONLY)
    assert len(world.asked) == 1
    assert inside.asked == []


def test_a_redirect_to_another_scheme(world: Web) -> None:
    world.answer = lambda exchange, asked: exchange.reply(302, Location="file:///etc/passwd")
    with pytest.raises(Refused):
        external_get(url=world.url, allowed=OPEN_ONLY)


def test_redirects_are_followed_so_often_and_no_more(world: Web) -> None:
    def onwards(exchange: Exchange, asked: Asked) -> None:
        number = int(asked.path.strip("/"))
        if number:
            exchange.reply(307, Location=f"/{number - 1}")
        else:
            exchange.reply(200, b"there")

    world.answer = onwards
    assert external_get(url=f"{world.url}/5", allowed=OPEN_ONLY).body == b"there"
    with pytest.raises(Refused, match="redirects"):
        external_get(url=f"{world.url}/6", allowed=OPEN_ONLY)


# ---- Rebinding -------------------------------------------------------------------------------------------------------


class NameServer:
    """A name server on loopback (RFC 1035, A records): each query is answered with the next list of addresses."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.queries = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            query, client = self.socket.recvfrom(512)
            if not query:
                return
            addresses = self.answers[min(self.queries, len(self.answers) - 1)]
            self.queries += 1
            head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, len(addresses), 0, 0)
            record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4)
            body = b"".join(record + socket.inet_aton(address) for address in addresses)
            self.socket.sendto(head + query[12:] + body, client)

    def close(self) -> None:
        self.socket.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()

    def resolve(self, host: str) -> list[str]:
        """Ask it over the network, as the system's resolver would."""
        name = b"".join(bytes([len(part)]) + part.encode() for part in host.split(".")) + b"\x00"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.settimeout(10)
            ours.sendto(struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + name + b"\x00\x01\x00\x01",
                        self.socket.getsockname())  # fmt: skip
            reply = ours.recv(512)
        count, end = struct.unpack(">H", reply[6:8])[0], 12 + len(name) + 4
        return [socket.inet_ntoa(reply[end + 16 * i + 12 : end + 16 * i + 16]) for i in range(count)]


@pytest.fixture
def name_server() -> Iterator[Any]:
    started: list[NameServer] = []

    def start(*answers: list[str]) -> NameServer:
        started.append(NameServer(*answers))
        return started[-1]

    yield start
    for server in started:
        server.close()


def test_a_name_that_means_another_address_the_second_time(world: Web, inside: Web, name_server: Any) -> None:
    names = name_server(["127.0.0.1"], ["127.0.0.2"])
    url = f"http://rebind.example:{world.port}/"
    answer = external_get(url=url, allowed=OPEN_ONLY, resolve=names.resolve)
    assert (answer.status, names.queries) == (200, 1)
    assert world.asked[0].headers["host"] == f"rebind.example:{world.port}"
    with pytest.raises(Refused, match=r"rebind\.example resolves to 127\.0\.0\.2"):
        external_get(url=url, allowed=OPEN_ONLY, resolve=names.resolve)
    assert inside.asked == []


def test_checked_and_then_called_by_name_it_would_get_inside(world: Web, inside: Web, name_server: Any) -> None:
    """The twin: what a guard does that looks at the name and leaves the connection to the HTTP client."""
    names = name_server(["127.0.0.1"], ["127.0.0.2"])
    assert all(is_allowed(ipaddress.ip_address(found), OPEN_ONLY) for found in names.resolve("rebind.example"))
    urllib.request.urlopen(f"http://{names.resolve('rebind.example')[0]}:{world.port}/").close()
    assert len(inside.asked) == 1


def test_each_hop_of_a_redirect_is_resolved_and_checked_anew(world: Web, inside: Web, name_server: Any) -> None:
    names = name_server(["127.0.0.1"], ["127.0.0.2"])
    world.answer = lambda exchange, asked: exchange.reply(302, Location=f"http://next.example:{world.port}/")
    with pytest.raises(Refused, match=r"next\.example"):
        external_get(url=f"http://first.example:{world.port}/", allowed=OPEN_ONLY, resolve=names.resolve)
    assert (names.queries, inside.asked) == (2, [])


def test_one_bad_address_among_good_ones_is_enough(world: Web, name_server: Any) -> None:
    names = name_server(["127.0.0.1", "127.0.0.2"])
    with pytest.raises(Refused):
        external_get(url=f"http://mixed.example:{world.port}/", allowed=OPEN_ONLY, resolve=names.resolve)
    assert world.asked == []


def test_the_next_address_is_tried_where_one_does_not_answer(world: Web, name_server: Any) -> None:
    names = name_server(["127.0.0.3", "127.0.0.1"])
    url = f"http://two.example:{world.port}/"
    assert external_get(url=url, allowed=LOOPBACK, resolve=names.resolve).status == 200


def test_a_first_address_that_is_dead_leaves_time_for_the_next(world: Web) -> None:
    """Whose queue of connections is full, as of a host that is gone: nothing comes back, not even a refusal."""
    with socket.socket() as dead, ExitStack() as waiting:
        dead.bind(("127.0.0.3", world.port))
        dead.listen(0)
        for _ in range(4):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(dead.getsockname())
        for addresses in (["127.0.0.3", "127.0.0.1"], ["127.0.0.3", "127.0.0.3", "127.0.0.1"]):
            backend = GuardedBackend(
                allowed=LOOPBACK, budget=Budget(seconds=6.0, size=100), resolve=lambda _, found=addresses: found
            )
            backend.connect_tcp("two.example", world.port, timeout=30.0).close()
        began = time.monotonic()
        backend = GuardedBackend(
            allowed=LOOPBACK, budget=Budget(seconds=1.0, size=100), resolve=lambda _: ["127.0.0.3"] * 4
        )
        with pytest.raises(httpcore.ConnectTimeout):
            backend.connect_tcp("dead.example", world.port, timeout=30.0)
        assert time.monotonic() - began < 10


def test_a_name_that_does_not_exist_may_exist_later(name_server: Any) -> None:
    with pytest.raises(Unavailable, match="has no address"):
        external_get(url="http://gone.example/", allowed=[], resolve=name_server([]).resolve)
    with pytest.raises(Unavailable, match="cannot be resolved"):
        external_get(url="http://gone.example/", allowed=[], resolve=_not_found)


def _not_found(host: str) -> list[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_the_systems_resolver_is_the_one_that_is_used_otherwise() -> None:
    assert "127.0.0.1" in system_resolve("localhost")
