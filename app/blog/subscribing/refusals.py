"""Addresses that mail servers refuse for good: after three posts in a row no more mail goes to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db import connection

from pressroom.text import carried

LIMIT = 3
"""Posts in a row whose mail an address refused for good, after which it is switched off."""
LONGEST = 500
"""Characters kept of a server's words."""


def record_refusals(*, refused: Mapping[int, str], accepted: Iterable[int]) -> list[int]:
    """Count refusals of addresses and switch off those that refused ``LIMIT`` posts in a row.

    The mailing calls this in the transaction in which it records deliveries, with only the subscribers whose delivery
    it has just recorded, so that each post counts once. ``refused`` maps subscriber ids to the server's words, for
    refusals for good: leave out mails that were only put off, however often. ``accepted`` holds the ids of the others
    whose mail was taken; their count starts again. Ids that do not exist are ignored.

    Returns the ids that were switched off. An address comes back when it confirms a subscription again.
    """
    reasons = {**dict.fromkeys(accepted, ""), **{one: reason or "no reason given" for one, reason in refused.items()}}
    if not reasons:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH said AS (SELECT * FROM unnest(%(ids)s::bigint[], %(reasons)s::text[]) AS said (id, reason)),
            -- Locked in the order of their ids, so that two mailings cannot deadlock.
            counted AS (
                SELECT s.id, s.active, said.reason FROM blog_subscriber s JOIN said USING (id)
                WHERE said.reason <> '' OR s.refusals > 0 ORDER BY s.id FOR NO KEY UPDATE OF s
            ),
            updated AS (
                UPDATE blog_subscriber s SET
                    refusals = CASE WHEN c.reason = '' THEN 0 ELSE least(s.refusals + 1, 32767) END,
                    active = s.active AND (c.reason = '' OR s.refusals + 1 < %(limit)s),
                    switched_off = CASE
                        WHEN s.active AND c.reason <> '' AND s.refusals + 1 >= %(limit)s
                        THEN format('It refused %%s posts in a row. The last answer: %%s', s.refusals + 1, c.reason)
                        ELSE s.switched_off
                    END
                FROM counted c WHERE s.id = c.id
                RETURNING s.id, c.active AND NOT s.active AS is_off
            )
            SELECT id FROM updated WHERE is_off ORDER BY id
            """,
            {
                "ids": list(reasons),
                "reasons": [carried(reason)[:LONGEST] for reason in reasons.values()],
                "limit": LIMIT,
            },
        )
        return [row[0] for row in cursor.fetchall()]
