"""Until now every active subscriber received the posts of every author, and stays subscribed to each of them.

The subscriber's own token, which is in the mails already sent, ends all its subscriptions.

Each batch is committed by itself. In one transaction, Postgres would keep the checks of all foreign keys in memory until
the end. If the migration is interrupted, it skips what it has done.
"""

from typing import Any

from django.db import migrations

BATCH = 10_000
"""Subscribers."""
CARRY_OVER = """
WITH batch AS (
    SELECT id, created_at FROM blog_subscriber WHERE active AND id > %(after)s ORDER BY id LIMIT %(batch)s
),
carried AS (
    INSERT INTO blog_subscription (author_id, subscriber_id, token, created_at, confirmed_at)
    SELECT %(author)s, id, replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), created_at, created_at
    FROM batch ORDER BY id ON CONFLICT (author_id, subscriber_id) DO NOTHING
)
SELECT max(id) FROM batch
"""
SAY_WHY = "UPDATE blog_subscriber SET switched_off = 'It unsubscribed.' WHERE NOT active"


def carry_over(apps: Any, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT author_id FROM blog_post WHERE status = 'published' ORDER BY author_id")
        for (author,) in cursor.fetchall():
            after = 0
            while after is not None:
                cursor.execute(CARRY_OVER, {"author": author, "after": after, "batch": BATCH})
                (after,) = cursor.fetchone()


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("blog", "0006_subscriptions")]

    operations = [
        migrations.RunPython(carry_over, migrations.RunPython.noop),
        migrations.RunSQL(SAY_WHY, migrations.RunSQL.noop),
    ]
