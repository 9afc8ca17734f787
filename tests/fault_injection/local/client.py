"""The caller, with books of its own: ``python -m …local.client ours|stock FOLDER SEED TASKS SECONDS``.

A call is acknowledged when its commit has returned (ours) or its ``delay()`` (stock), and is noted only then. Calls
come in bursts of random size, spread over the time; a call that failed is not made again.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from tests.fault_injection.local.calls import PARTS, WEIGHTS
from tests.support.notes import note

LARGEST_BURST = 100


def main(system: str, folder: Path, seed: str, tasks: int, seconds: float) -> None:
    """Make calls until so many tasks are acknowledged."""
    if system == "stock":
        import tests.fault_injection.local.stock  # noqa: F401 - becomes the default application
    import django

    django.setup()
    from django.db import connection, transaction

    from tests.fault_injection.local.tasks import make

    rng = random.Random(f"{seed} calls")
    begin = time.monotonic()
    number = made = 0
    while made < tasks:
        time.sleep(max(0.0, begin + seconds * made / tasks - time.monotonic()))
        for _ in range(rng.randint(1, LARGEST_BURST)):
            kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            call = f"{number}-{kind}"
            number += 1
            note(f"{folder}/called", call)
            try:
                if system == "stock":
                    make(call, kind)
                else:
                    with transaction.atomic():
                        make(call, kind)
            except Exception as error:
                print(f"{call} not acknowledged: {error!r}", flush=True)
                connection.close()
                time.sleep(0.1)
            else:
                note(f"{folder}/acknowledged", f"{call} {time.time()}")
                made += len(PARTS[kind])
            if made >= tasks:
                break


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
