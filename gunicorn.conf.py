"""Configuration of gunicorn. ``gunicorn app.wsgi`` finds it in this folder; options on its command line win."""

import os
import socket
import tempfile

# Set this before prometheus_client is imported: it makes each process count in files of its own.
if os.environ.get("METRICS_PORT", "0") != "0":
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="pressroom-metrics-"))
    os.makedirs(os.environ["PROMETHEUS_MULTIPROC_DIR"], exist_ok=True)

from app.observability.gunicorn import Logger, child_exit, on_exit, post_worker_init, pre_fork, pre_request, when_ready

__all__ = ["child_exit", "on_exit", "post_worker_init", "pre_fork", "pre_request", "when_ready"]

# All addresses of both families, or IPv4 alone on a machine without IPv6. `app.wsgi` takes care of how an IPv4 address
# looks then.
bind = "[::]:8000" if socket.has_dualstack_ipv6() else "0.0.0.0:8000"
# Load the application once, in the master, so that the processes share its memory.
preload_app = True

worker_class = "gthread"
# Each event stream holds a thread. EVENT_STREAMS (2) limits them, so that half of the threads answer requests.
threads = 4
# Longer than proxies keep idle connections to us. The side that closes first may cut off a request just sent.
keepalive = 75
control_socket_disable = True
# Room for every query that the API describes: a test adds up the lengths of its parameters.
limit_request_line = 8190
limit_request_fields = 50
# gunicorn answers longer headers with its own page. For shorter ones the application says what is wrong.
limit_request_field_size = 16_380
logger_class = Logger
