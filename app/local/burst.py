"""A burst of work over HTTP: ``python -m app.local.burst http://localhost:8000`` orders 500 reports."""

from __future__ import annotations

import sys

from app.local.demo import Api, order_report


def burst(base_url: str, reports: int = 500) -> None:
    """Order the reports as the demo's author. They are made afterwards. Raises DemoError."""
    author = Api(base_url)
    author.sign_in("author", "author-demo-1")
    for number in range(1, reports + 1):
        order_report(author)
        if number % 100 == 0:
            print(f"{number} ordered", flush=True)


if __name__ == "__main__":
    burst(sys.argv[1])
