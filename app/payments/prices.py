"""What can be bought, and for how much. A client names a plan, never an amount."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """An amount in the currency's smallest unit: the won has none below itself, a dollar is 100 cents."""

    amount: int
    currency: str
    """ISO 4217, in lower case as Stripe has it."""


PLANS = {
    "monthly": Price(9_900, "krw"),
    "yearly": Price(99_000, "krw"),
    "yearly-abroad": Price(7_900, "usd"),
}
