"""``make e2e``: the chart on a real cluster. ``python -m tests.e2e.cluster``."""
