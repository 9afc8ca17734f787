"""When the ledger tidies up."""

SCHEDULE = {
    "prune-task-runs": {"task": "app.taskruns.tasks.prune", "schedule": 600},
}
