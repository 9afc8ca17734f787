"""``manage.py relay``, which notes in PUSHED_FILE how many messages each turn pushed."""

import os

from django.core.management import execute_from_command_line

from pressroom.relay.publisher import Publisher
from tests.support.notes import note

_publish = Publisher.publish


def publish(self: Publisher, windows: dict[str, int]) -> int:
    count = _publish(self, windows)
    if count:
        note(os.environ["PUSHED_FILE"], str(count))
    return count


Publisher.publish = publish  # type: ignore[method-assign]

if __name__ == "__main__":
    execute_from_command_line(["manage.py", "relay"])
