"""Rate limits of sign-ins and account mails. Postgres counts, so that the limits hold while the cache is down.

A limit of "10/hour" is a bucket that holds ten and loses one every six minutes. Each bucket is one row, changed by one
statement: ten concurrent requests get through, however many arrive. Refused requests are not counted, so trying on does
not prolong a lock-out. Keys are HMACs: a password that somebody types into the name field leaves no trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Address, ip_address
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import salted_hmac
from rest_framework.exceptions import Throttled
from rest_framework.throttling import BaseThrottle

from app.accounts.models import KnownAddress, Limit, User
from app.accounts.names import fold
from app.http.rates import parse_rate

KNOWN_FOR = timedelta(days=90)
BATCH = 1_000

TAKE = """
INSERT INTO accounts_limit AS known (key, until) VALUES (%(key)s, clock_timestamp() + %(step)s)
ON CONFLICT (key) DO UPDATE SET until = greatest(known.until, clock_timestamp()) + %(step)s
    WHERE greatest(known.until, clock_timestamp()) + %(step)s <= clock_timestamp() + %(period)s
RETURNING 1
"""
WAIT = """
SELECT extract(epoch FROM until + %(step)s - %(period)s - clock_timestamp()) FROM accounts_limit WHERE key = %(key)s
"""
GIVE_BACK = "UPDATE accounts_limit SET until = until - %(step)s WHERE key = %(key)s"


@dataclass(frozen=True)
class Bucket:
    """A counter with a rate."""

    key: str
    rate: str

    @property
    def _parameters(self) -> dict[str, Any]:
        count, seconds = parse_rate(self.rate)
        period = timedelta(seconds=seconds)
        return {"key": self.key, "period": period, "step": period / count}

    def take(self) -> float | None:
        """Count one action. Returns None, or, if the bucket is full, the seconds to wait without counting anything."""
        with connection.cursor() as cursor:
            cursor.execute(TAKE, self._parameters)
            if cursor.fetchone():
                return None
            cursor.execute(WAIT, self._parameters)
            row = cursor.fetchone()
        return max(float(row[0]), 1.0) if row else 1.0

    def give_back(self) -> None:
        """Take back one counted action."""
        with connection.cursor() as cursor:
            cursor.execute(GIVE_BACK, self._parameters)


def bucket(kind: str, *parts: str) -> Bucket:
    """Return the bucket of this kind (a name in LIMITS) for the given parts."""
    key = salted_hmac("app.accounts.limits", "\0".join((kind, *parts)), algorithm="sha256").hexdigest()
    return Bucket(key, settings.LIMITS[kind])


def take_all(buckets: list[Bucket], detail: str) -> None:
    """Count one action in every bucket, or in none. Raises Throttled with the seconds to wait if a bucket is full."""
    with transaction.atomic():
        # Every caller takes the locks in the same order, so that two of them cannot deadlock.
        for one in sorted(buckets, key=lambda each: each.key):
            if (wait := one.take()) is not None:
                raise Throttled(wait=wait, detail=detail)


def client_address(request: HttpRequest | None) -> str:
    """Return the client's address behind NUM_PROXIES, or "" if it is unknown. For IPv6 it is the customer's /64."""
    text = (BaseThrottle().get_ident(request) or "") if request is not None else ""  # type: ignore[arg-type]  # reads META
    try:
        address = ip_address(text.strip())
    except ValueError:
        return text[:64]
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or f"{IPv6Address(int(address) >> 64 << 64)}/64")
    return str(address)


class Attempt:
    """One attempt to sign in, counted before the password is checked."""

    def __init__(self, username: str, request: HttpRequest | None) -> None:
        """Raises Throttled if this account, this address or the pair of both has had too many attempts."""
        name, address = fold(username), client_address(request)
        self._address = address
        self._pair = bucket("lockout_login", name, address)
        self._account = bucket("lockout_account", name)
        self._failures = [bucket("lockout_address", address)] if address else []
        counted = [self._pair, *self._failures]
        if address:
            counted.append(bucket("login", address))
        # Without this exception, strangers could lock a user out for ever, from anywhere.
        if not (address and _is_known(username, address)):
            counted.append(self._account)
        take_all(counted, "Too many attempts to sign in.")

    def succeeded(self, user: Any) -> None:
        """Reset the counters, because the password was right."""
        Limit.objects.filter(key__in=[self._pair.key, self._account.key]).delete()
        for one in self._failures:
            one.give_back()
        if self._address:
            remember_address(user, self._address)


def forgive(user: User, request: HttpRequest | None) -> None:
    """End the account's lock-out, for this client address permanently. The owner has proved their identity by mail."""
    name, address = fold(user.username), client_address(request)
    Limit.objects.filter(
        key__in=[bucket("lockout_login", name, address).key, bucket("lockout_account", name).key]
    ).delete()
    if address:
        remember_address(user, address)


def remember_address(user: Any, address: str) -> None:
    """Record that the user has signed in from this address."""
    KnownAddress.objects.update_or_create(user=user, address=_hmac(address), defaults={"seen_at": timezone.now()})


def _is_known(username: str, address: str) -> bool:
    name = Q(user__username=username) | Q(user__username_key=fold(username))
    return KnownAddress.objects.filter(name, address=_hmac(address), seen_at__gt=timezone.now() - KNOWN_FOR).exists()


def _hmac(address: str) -> str:
    return salted_hmac("app.accounts.address", address, algorithm="sha256").hexdigest()


def mail_allowed(email: str) -> None:
    """Count a mail that somebody requests for an address. Raises Throttled if the address has received too many."""
    take_all([bucket("account_mail", fold(email))], "Too many mails to this address.")


def reset_allowed(email: str, request: HttpRequest) -> None:
    """Count a request for a reset mail, by address and by client. Raises Throttled for unknown addresses as well."""
    asked = [bucket("account_mail", fold(email)), bucket("password_reset", client_address(request))]
    take_all(asked, "Too many mails for a forgotten password.")


def limits_cleanup() -> int:
    """Delete expired limits and addresses not seen for 90 days, in batches. Returns the number of deleted rows."""
    now = timezone.now()
    deleted = 0
    old: tuple[QuerySet[Any], ...] = (
        Limit.objects.filter(until__lte=now),
        KnownAddress.objects.filter(seen_at__lte=now - KNOWN_FOR),
    )
    for rows in old:
        while batch := list(rows.values_list("pk", flat=True)[:BATCH]):
            deleted += rows.filter(pk__in=batch).delete()[0]
    return deleted
