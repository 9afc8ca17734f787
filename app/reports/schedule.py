"""When reports are tidied up, and when the summary of the day before is sent."""

from celery.schedules import crontab

SCHEDULE = {
    "cleanup-reports": {
        "task": "app.reports.tasks.cleanup_reports",
        "schedule": crontab(hour=3, minute=30),
    },
    "send-daily-summary": {
        "task": "app.reports.tasks.send_daily_summary",
        "schedule": crontab(hour=9, minute=0, day_of_week="1-5"),
    },
}
