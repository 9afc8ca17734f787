"""``python -m tests.canvas.run stock|ours FOLDER [NAME…]``: run the scenarios, print their outcomes as JSON."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def main(kind: str, folder: Path, names: list[str]) -> dict[str, Any]:
    """Outcome by scenario; what a scenario raises is its outcome."""
    if kind == "ours":
        import django

        django.setup()
        import tests.canvas.ours
    else:
        import tests.canvas.stock  # noqa: F401
    from tests.canvas import scenarios

    def outcome(name: str) -> Any:
        tmp = folder / name
        tmp.mkdir(parents=True)
        try:
            return scenarios.ALL[name](tmp)
        except BaseException as error:
            return f"raised {type(error).__name__}: {error}"
        finally:
            if kind == "ours":
                from django.db import connection

                connection.close()

    chosen = names or list(scenarios.ALL)
    with ThreadPoolExecutor(12) as pool:
        return dict(zip(chosen, pool.map(outcome, chosen), strict=True))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]), default=repr))
