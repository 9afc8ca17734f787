"""The measurements run, and find what they look for."""

import os
import subprocess
import sys

from app.local.servers import PROJECT


def test_fan_out() -> None:
    env = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    command = [sys.executable, "-m", "bench.fanout", "2_500", "--seconds", "2.5", "--slots", "1"]
    done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2,500 mails by 3 calls; missed 0, mailed twice 0" in done.stdout
    assert "50 mails by 50 calls; missed 0, mailed twice 0" in done.stdout
