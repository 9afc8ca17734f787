"""The plans and their prices. A client names a plan, never an amount."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """An amount in the smallest unit of the currency. The won has no smaller unit; a dollar is 100 cents."""

    amount: int
    currency: str
    """ISO 4217 code, in lower case as in Stripe's API."""


PLANS = {
    "monthly": Price(9_900, "krw"),
    "yearly": Price(99_000, "krw"),
    "yearly-abroad": Price(7_900, "usd"),
}
