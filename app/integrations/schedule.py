"""When other services are pinged."""

SCHEDULE = {
    "ping-external": {
        "task": "app.integrations.tasks.ping_external",
        "schedule": 300,
        "options": {"expires": 300},  # the next one does as well
    },
}
