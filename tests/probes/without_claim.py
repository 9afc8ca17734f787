"""Loaded into a worker, it switches the claim's condition off: every message is taken for a run to be had."""

from app.taskruns import ledger

ledger.claim = lambda run_id, token, worker_id: ledger.Claim(run_id, token, 1, None)
