"""What others may want to know of the ledger."""

from django.dispatch import Signal

run_lost = Signal()
"""A run became a dead letter without its task raising anything.

Its workers died, did not know its name, or killed it at its limit. Sent once, after the commit, by the process that
found it: ``name`` of the task, ``celery_id``, ``args``, ``kwargs`` and the ``error``. What a task raises itself is told
by Celery's signals.
"""
