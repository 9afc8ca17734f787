"""When the ledger tidies up."""

SCHEDULE = {
    "prune-task-runs": {"task": "pressroom.tasks.prune", "schedule": 600},
}
