"""The counting relay with a window of one message a slot: what else waits is there for bundles."""

from django.core.management import execute_from_command_line

from pressroom.relay import reconciler
from tests.support.probes import relay_counting  # noqa: F401 - for what it puts in

reconciler.WINDOW_PER_SLOT = reconciler.WINDOW_LEAST = 1

if __name__ == "__main__":
    execute_from_command_line(["manage.py", "relay"])
