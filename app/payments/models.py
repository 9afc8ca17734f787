"""Orders: what was bought, its price and whether it is paid."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models


class Order(models.Model):
    """A purchase. Each change of its status is one conditional UPDATE (see services). A paid order stays paid."""

    class Status(models.TextChoices):
        PENDING = "pending"
        PROCESSING = "processing"
        INTERRUPTED = "interrupted"
        """The task ended without an answer. The order can be paid again, and is charged only once."""
        PAID = "paid"
        FAILED = "failed"

    # Stripe's idempotency keys contain this id. Numbers would repeat after a new database is created.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="orders")
    plan = models.TextField(help_text="What was bought.")
    amount = models.PositiveIntegerField(help_text="In the currency's smallest unit.")
    currency = models.CharField(max_length=3)
    status = models.TextField(choices=Status.choices, default=Status.PENDING)
    payment_method = models.TextField(default="", help_text="Stripe's id of the card or account to charge.")
    payment_intent = models.TextField(default="", help_text="Stripe's id of the payment.")
    refused_calls = models.PositiveIntegerField(default=0, help_text="Calls that Stripe answered with 5xx.")
    failure = models.TextField(default="", help_text="Why it failed or stopped, as the customer may read it.")
    task_id = models.TextField(default="", help_text="Celery's id of the task that pays.")
    created_at = models.DateTimeField(auto_now_add=True)
    paid_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["payment_intent"], name="order_payment_intent_once", condition=~models.Q(payment_intent="")
            )
        ]

    def __str__(self) -> str:
        return f"{self.plan} {self.id} ({self.status})"
