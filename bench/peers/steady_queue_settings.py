"""The peers' settings plus Steady Queue, with two worker processes."""

from steady_queue.configuration import Configuration

from bench.peers.settings import *  # noqa: F403

INSTALLED_APPS = ["django.contrib.contenttypes", "steady_queue"]
TASKS = {"default": {"BACKEND": "steady_queue.backend.SteadyQueueBackend", "QUEUES": ["default"], "OPTIONS": {}}}
STEADY_QUEUE = Configuration.Options(workers=[Configuration.Worker(processes=2)])
