"""The schedules for counting views and for the nightly clean-up of addresses that never confirmed."""

from celery.schedules import crontab

SCHEDULE = {
    "roll-up-views": {
        "task": "app.blog.tasks.roll_up_views",
        "schedule": 60.0,
        # A later tick does the work of one that had to wait.
        "options": {"expires": 60.0},
    },
    "cleanup-unconfirmed": {
        "task": "app.blog.tasks.cleanup_unconfirmed",
        "schedule": crontab(hour=3, minute=15),
    },
}
