"""gunicorn's settings, found by ``gunicorn app.wsgi`` in this folder; its command line has the last word."""

import os
import tempfile

# Before anything of prometheus_client is loaded, which decides by it how the processes count: each in files of its own.
if os.environ.get("METRICS_PORT", "0") != "0":
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="pressroom-metrics-"))
    os.makedirs(os.environ["PROMETHEUS_MULTIPROC_DIR"], exist_ok=True)

from app.observability.gunicorn import Logger, child_exit, on_exit, post_worker_init, pre_fork, pre_request, when_ready

__all__ = ["child_exit", "on_exit", "post_worker_init", "pre_fork", "pre_request", "when_ready"]

# Loaded once, in the master: its processes share that memory.
preload_app = True

worker_class = "gthread"
# A stream of events holds one: EVENT_STREAMS of them, 2, at most, so that half of the threads answer requests.
threads = 4
# Longer than proxies keep an idle connection to us: who closes it first cuts off a request that was just sent.
keepalive = 75
control_socket_disable = True
limit_request_line = 4094
limit_request_fields = 50
# Longer ones are answered with gunicorn's own page; up to here the application says what is wrong with a header.
limit_request_field_size = 16_380
logger_class = Logger
