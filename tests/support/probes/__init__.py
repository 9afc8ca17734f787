"""Tasks that the tests call; a worker loads them with ``--include=tests.probes.tasks``."""
