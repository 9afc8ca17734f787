"""``manage.py relay``, which notes in PUSHED_FILE how many messages each turn pushed."""

import os

from django.core.management import execute_from_command_line

from app.taskruns.relay import Relay
from tests.notes import note

_publish = Relay.publish


def publish(self: Relay) -> int:
    count = _publish(self)
    if count:
        note(os.environ["PUSHED_FILE"], str(count))
    return count


Relay.publish = publish  # type: ignore[method-assign]

if __name__ == "__main__":
    execute_from_command_line(["manage.py", "relay"])
