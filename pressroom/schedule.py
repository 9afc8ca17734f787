"""The schedule of the ledger's own task."""

SCHEDULE = {
    "prune-task-runs": {"task": "pressroom.tasks.prune", "schedule": 600},
}
