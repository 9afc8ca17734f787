"""Django's Tasks framework on the ledger: ``TASKS = {"default": {"BACKEND": "pressroom.django_tasks.LedgerBackend"}}``.

A ``@task`` and a ``@shared_task`` are runs of the same ledger, with the same queues, limits, pages and metrics.
"""

from pressroom.django_tasks.backend import LedgerBackend

__all__ = ["LedgerBackend"]
