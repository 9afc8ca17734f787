"""Actions on all runs that match a filter, which the relay carries out in batches: see docs/decisions/0029."""
