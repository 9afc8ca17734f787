"""``celery -A tests.odd.beat beat``: the project's beat, with odd schedules in the code and plain ones beside them.

ODD_CODE_SCHEDULES has what was drawn, as JSON.
"""

from __future__ import annotations

import json
import os

from app.celery import app
from tests.odd.kinds.schedules import code_schedule
from tests.odd.stack import PLAIN_IN_CODE

_odd = code_schedule(json.loads(os.environ.get("ODD_CODE_SCHEDULES", "[]")))
_first, _second = (
    (name, {"task": "odd.plain", "schedule": 1.0, "args": ["ticks", name]}) for name in PLAIN_IN_CODE
)  # fmt: skip
# Before the odd ones, and after them.
app.conf.beat_schedule = dict([_first, *app.conf.beat_schedule.items(), *_odd.items(), _second])
