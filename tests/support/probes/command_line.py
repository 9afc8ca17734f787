"""Run commands of Celery's command line one after another in one process; tell of each as a line of JSON.

python -m tests.support.probes.command_line < calls.json
"""

import json
import sys
import traceback
from typing import Any

from celery.bin.celery import celery
from click.testing import CliRunner


def outcome(arguments: list[str]) -> dict[str, Any]:
    """Exit code and output, and the traceback of what is no exit."""
    sys.argv = ["celery", "-A", "app", *arguments]  # which `multi` reads
    done = CliRunner().invoke(celery, ["-A", "app", *arguments], input="app.main\n")
    broke = done.exception is not None and not isinstance(done.exception, SystemExit)
    told = "".join(traceback.format_exception(*done.exc_info)) if broke and done.exc_info else ""
    return {"code": done.exit_code, "output": done.output, "traceback": told}


if __name__ == "__main__":
    for one in json.load(sys.stdin):
        print(json.dumps(outcome(one)), flush=True)
