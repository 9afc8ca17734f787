"""The tasks that a worker of the fuzzer has: ``--include=tests.odd.tasks``."""

from tests.odd.tasks import bases, basic, handlers, hooks, outcomes  # noqa: F401 - each registers its tasks
