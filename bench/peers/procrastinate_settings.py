"""The peers' settings plus Procrastinate's app, which has tables."""

from bench.peers.settings import *  # noqa: F403

INSTALLED_APPS = ["procrastinate.contrib.django"]
PROCRASTINATE_IMPORT_PATHS = ["bench.peers.procrastinate"]
