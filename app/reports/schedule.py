"""The schedules for cleaning up reports and for sending the summary of the day before."""

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
