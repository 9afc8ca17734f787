"""The schedule for pinging other services."""

SCHEDULE = {
    "ping-external": {
        "task": "app.integrations.tasks.ping_external",
        "schedule": 300,
        "options": {"expires": 300},  # The next tick replaces a late one.
    },
}
