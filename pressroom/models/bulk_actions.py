"""The table of bulk actions: what an operator ordered for all runs that match a filter. See docs/decisions/0029."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class BulkAction(models.Model):
    """An action on all runs that match a filter at the moment of the order. The relay carries it out in batches."""

    class Kind(models.TextChoices):
        """What is done with each run."""

        CANCEL = "cancel", "cancel"
        RUN_AGAIN = "run-again", "run again"
        RUN_NOW = "run-now", "run now"
        MOVE = "move", "move"
        DISCARD = "discard", "discard"

    class State(models.TextChoices):
        """How far it is."""

        ORDERED = "ordered", "ordered"
        COUNTING = "counting", "counting"
        RUNNING = "running", "running"
        DONE = "done", "done"
        CANCELLED = "cancelled", "cancelled"
        FAILED = "failed", "failed"

    kind = models.TextField(choices=Kind)
    filter = models.JSONField(help_text="The conditions: see RunFilter.to_json.")
    queue = models.TextField(default="", help_text="To which it moves the runs; empty: their queue stays.")
    priority = models.SmallIntegerField(null=True, help_text="Which it gives the runs; null: theirs stays.")
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False,
        db_constraint=False, help_text="Who ordered it; null for a command or code.",
    )  # fmt: skip
    state = models.TextField(choices=State, default=State.ORDERED)
    ordered_at = models.DateTimeField(help_text="Runs that were called or have ended later are left alone.")
    worked_at = models.DateTimeField(help_text="When the last batch was done.")
    ended_at = models.DateTimeField(null=True)
    position = models.UUIDField(null=True, help_text="Down to which run it has counted or acted; null: none yet.")
    total = models.BigIntegerField(default=0, help_text="How many runs matched, once they are counted.")
    done = models.BigIntegerField(default=0, help_text="Runs that it has changed.")
    skipped = models.BigIntegerField(default=0, help_text="Runs whose state did not allow it.")
    failed = models.BigIntegerField(default=0, help_text="Runs with which an error occurred.")
    reasons = models.JSONField(default=dict, help_text="Why runs were skipped or failed: how many, by reason.")
    error = models.TextField(default="", help_text="Why the whole action failed.")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["worked_at"], name="bulkaction_open", condition=Q(ended_at=None))]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} all that match ({self.pk})"

    @property
    def handled(self) -> int:
        """How many runs were looked at."""
        return self.done + self.skipped + self.failed

    @property
    def summary(self) -> str:
        """What became of it, in words."""
        parts = [f"{self.done:,} changed"]
        parts += [f"{self.skipped:,} skipped"] if self.skipped else []
        parts += [f"{self.failed:,} failed"] if self.failed else []
        return ", ".join(parts)
