"""Until now every active subscriber received the posts of every author, and stays subscribed to each of them.

The subscriber's own token, which is in the mails already sent, ends all its subscriptions.
"""

from django.db import migrations

CARRY_OVER = """
INSERT INTO blog_subscription (author_id, subscriber_id, token, created_at, confirmed_at)
SELECT author_id, s.id, replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), s.created_at, s.created_at
FROM (SELECT DISTINCT author_id FROM blog_post WHERE status = 'published') authors, blog_subscriber s
WHERE s.active
ORDER BY author_id, s.id
"""
SAY_WHY = "UPDATE blog_subscriber SET switched_off = 'It unsubscribed.' WHERE NOT active"


class Migration(migrations.Migration):
    dependencies = [("blog", "0006_subscriptions")]

    operations = [
        migrations.RunSQL(CARRY_OVER, migrations.RunSQL.noop),
        migrations.RunSQL(SAY_WHY, migrations.RunSQL.noop),
    ]
