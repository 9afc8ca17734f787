"""Our application with the tasks of the comparison: a worker's ``--include=tests.canvas.ours``."""

from app.celery import app
from tests.canvas.tasks import ByClass

app.conf.result_extended = True
app.register_task(ByClass())
