"""The caller: ``python -m tests.fault_injection.limits.client FOLDER SEED SECONDS``.

Calls come in bursts for one key. A few keys get many more calls than the others.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from tests.support.notes import note

KEYS = 50
CROWDED = 5
"""Keys that get half of all calls."""
LARGEST_BURST = 15
CALLS = 30
"""Calls in a second."""


def crowded(key: int) -> bool:
    """Return whether a key is one of those with many calls."""
    return key < CROWDED


def main(folder: Path, seed: str, seconds: float) -> None:
    """Make calls for so many seconds."""
    import django

    django.setup()
    from django.db import transaction

    from tests.fault_injection.limits.tasks import at_once, rated

    rng = random.Random(f"{seed} calls")
    begin, number = time.monotonic(), 0
    while (elapsed := time.monotonic() - begin) < seconds:
        if number > elapsed * CALLS:
            time.sleep(0.01)
            continue
        key = str(rng.randrange(CROWDED) if rng.random() < 0.5 else rng.randrange(CROWDED, KEYS))
        task = rng.choice([at_once, rated])
        burst = range(number, number + rng.randint(1, LARGEST_BURST))
        with transaction.atomic():
            for one in burst:
                task.delay(key, one)
        at = time.monotonic()
        for one in burst:
            note(f"{folder}/called", f"{at} {task.name.removeprefix('limits.')} {key} {one}")
        number = burst.stop


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
