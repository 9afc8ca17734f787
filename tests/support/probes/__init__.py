"""Tasks that the tests call; a worker loads them with ``--include=tests.support.probes.tasks``."""
