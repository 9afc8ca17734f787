"""Signals that the ledger sends."""

from django.dispatch import Signal

unique_call_repeated = Signal()
"""A unique call found an earlier one and stored nothing.

The calling process sends the signal in the caller's transaction, with the task's ``name`` and the ``celery_id`` of the
earlier call.
"""
run_lost = Signal()
"""A run became a dead letter although its task raised nothing.

Its workers died, did not know the task's name, or killed the run at its time limit. The process that noticed it sends
the signal once, after the commit, with the task's ``name``, the ``celery_id``, ``args``, ``kwargs`` and the ``error``.
For an exception that a task raises, Celery sends its own signals.
"""
