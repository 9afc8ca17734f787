"""A network backend for URLs that users choose: public addresses only, with limits on time and bytes.

Each host name is resolved once. The guard checks every address of the host and connects to a checked address, so a
second answer of the name server (DNS rebinding) is never used. The guard works where sockets are opened: a redirect
cannot bypass it, and the Host header and the TLS server name stay those of the URL.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpcore

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str], Sequence[str]]

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address."""
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""RFC 4291: all addresses that are assigned for public use."""
SPECIAL: tuple[Network, ...] = tuple(
    map(
        ipaddress.ip_network,
        (
            # IANA's special-purpose registries (RFC 6890), including the globally reachable blocks, which host no
            # service. ``is_global`` is not used, because it differs between releases of Python.
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
            "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
            # Multicast, and the reserved block with the broadcast address.
            "224.0.0.0/4", "240.0.0.0/4",
            "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
        ),
    )
)  # fmt: skip


class Refused(Exception):
    """The call or its answer is not acceptable. Trying again will not help."""


class Budget:
    """The time and bytes that a call may use over all its connections."""

    def __init__(self, *, seconds: float, size: int) -> None:
        self._deadline = time.monotonic() + seconds
        self._size = self._left = size

    def wait(self, timeout: float | None, error: type[Exception]) -> float:
        """Return the seconds to wait: ``timeout`` or what is left, if that is less. Raises ``error`` if nothing is."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise error("out of time")
        return left if timeout is None else min(left, timeout)

    def share(self, timeout: float | None, tries: int, error: type[Exception]) -> float:
        """Like ``wait``, for the next of ``tries`` tries. Each try gets at most its share of the remaining time."""
        return min(self.wait(timeout, error), self.wait(None, error) / tries)

    def spend(self, received: bytes) -> bytes:
        """Count received bytes of headers and bodies. Raises Refused if they exceed the budget."""
        self._left -= len(received)
        if self._left < 0:
            raise Refused(f"the answer is larger than {self._size} bytes")
        return received


def system_resolve(host: str) -> list[str]:
    """Resolve a host name with the system's resolver. Raises OSError."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def is_allowed(address: Address, allowed: Iterable[Network]) -> bool:
    """Whether connections to an address are allowed: it must be public or in one of the ``allowed`` networks.

    An IPv6 address that embeds an IPv4 address (mapped, 6to4, Teredo, NAT64) is judged by that IPv4 address.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner:
            return is_allowed(inner, allowed)
    if any(address in network for network in allowed):
        return True
    if isinstance(address, ipaddress.IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    return not any(address in network for network in SPECIAL)


class GuardedBackend(httpcore.NetworkBackend):
    """Opens httpcore's connections, to allowed addresses and within the budget."""

    def __init__(self, *, allowed: Sequence[Network], budget: Budget, resolve: Resolve = system_resolve) -> None:
        self._allowed = allowed
        self._budget = budget
        self._resolve = resolve
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Raises Refused, httpcore.ConnectError and httpcore.ConnectTimeout."""
        error: Exception = httpcore.ConnectError(f"{host} has no address")
        addresses = self._checked(host)
        for tried, address in enumerate(addresses):
            wait = self._budget.share(timeout, len(addresses) - tried, httpcore.ConnectTimeout)
            try:
                stream = self._sockets.connect_tcp(address, port, wait, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
            else:
                return _Stream(stream, self._budget)
        raise error

    def _checked(self, host: str) -> list[str]:
        try:
            found = [str(ipaddress.ip_address(host))]
        except ValueError:
            try:
                found = list(self._resolve(host))
            except (OSError, UnicodeError) as error:
                raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        for address in found:
            if not is_allowed(ipaddress.ip_address(address), self._allowed):
                raise Refused(f"{host} resolves to {address}, which is not a public address")
        return found

    def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        """Always raises Refused."""
        raise Refused("not a network address")


class _Stream(httpcore.NetworkStream):
    """A connection that counts against the budget."""

    def __init__(self, stream: httpcore.NetworkStream, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._budget.spend(self._stream.read(max_bytes, self._budget.wait(timeout, httpcore.ReadTimeout)))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._budget.wait(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        wait = self._budget.wait(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, wait), self._budget)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
