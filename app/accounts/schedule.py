"""The schedule of the nightly clean-up of expired tokens."""

from celery.schedules import crontab

SCHEDULE = {
    "cleanup-expired-tokens": {
        "task": "app.accounts.tasks.cleanup_expired_tokens",
        "schedule": crontab(hour=3, minute=0),
    },
}
