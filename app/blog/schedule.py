"""The schedule for counting views."""

SCHEDULE = {
    "roll-up-views": {
        "task": "app.blog.tasks.roll_up_views",
        "schedule": 60.0,
        # A later tick does the work of one that had to wait.
        "options": {"expires": 60.0},
    },
}
