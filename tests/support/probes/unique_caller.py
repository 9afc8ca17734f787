"""A process that makes unique calls as fast as it can, some in transactions that are rolled back.

Arguments: a file to wait for, the number of keys, of threads and of calls. Prints a JSON list of ``[key, id]`` of the
calls that were committed.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import django

django.setup()

from django.db import connection, transaction  # noqa: E402

from tests.support.probes import tasks  # noqa: E402


class Undone(Exception):
    pass


def call(number: int, keys: int) -> list[str] | None:
    key = f"key {number % keys}"
    try:
        with transaction.atomic():
            result = tasks.effect.apply_async(["nowhere", key], unique="until done")
            time.sleep(random.random() / 100)  # the others meet this transaction before it ends
            if number % 10 == 0:
                raise Undone
    except Undone:
        return None
    finally:
        connection.close()
    return [key, result.id]


def main(gate: str, keys: int, threads: int, calls: int) -> None:
    print("ready", flush=True)
    while not os.path.exists(gate):
        time.sleep(0.01)
    with ThreadPoolExecutor(threads) as pool:
        made = list(pool.map(lambda number: call(number, keys), range(calls)))
    print(json.dumps([one for one in made if one is not None]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
