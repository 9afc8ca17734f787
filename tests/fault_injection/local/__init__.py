"""The oracle: judges from outside whether acknowledged calls were lost, got stuck or ran twice, while things break.

``python -m tests.fault_injection.local --help``; what its figures mean stands in ``docs/test-results.md``.
"""
