"""``make up``: runs the whole stack on this machine until Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from app.local import running
from app.local.servers import PROJECT, Postgres, Service, ServiceError, Valkey, data_folder, free_port
from app.local.supervisor import Ended, Guardian, Printer, Supervisor
from app.queues import QUEUES
from pressroom.queues import Queue

READY_TIMEOUT = 120.0
"""Seconds. This only guards against a hang: everything starts in a few seconds."""


class Refused(Exception):
    """``make up`` cannot start here. The text says why."""


def lock(var: Path) -> IO[str]:
    """Take the lock of this project. Raises Refused if another ``make up`` holds it."""
    var.mkdir(parents=True, exist_ok=True)
    file = (var / running.LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise Refused(beside(var, file.read().strip())) from None
    running.forget(var)
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def beside(var: Path, holder: str) -> str:
    """Return the options of the user while another ``make up`` runs."""
    site = running.read(var).get("SITE_URL")
    lines = [
        f"`make up` already runs here (process {holder})" + (f", at {site}/" if site else ""),
        "  beside it:       `make shell`, `make psql`, manage.py and celery use it directly",
        f"  instead of it:   end it with Ctrl-C in its terminal or with `kill {holder}`, then start again",
        "  a second one:    `make up VAR_DIR=/another/folder PORT=8001`",
    ]
    return "\n".join(lines)


def wanted_ports(**given: str) -> dict[str, int]:
    """Return the ports to serve on, by variable. Raises Refused with a line for each that cannot be used."""
    wrong = []
    ports: dict[str, int] = {}
    for name, text in given.items():
        if not (text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536):
            wrong.append(f"{name}={text} is not a port: use a number from 1 to 65535")
        elif int(text) in ports.values():
            wrong.append(f"{name}={text} is already used by another variable")
        else:
            ports[name] = int(text)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", int(text)))
                except OSError as error:
                    hint = f"choose another with `make up {name}=…`"
                    wrong.append(f"port {text} is not free ({error.strerror}): {hint}")
    if wrong:
        raise Refused("\nmake up: ".join(wrong))
    return ports


def secret_key(var: Path) -> str:
    """Return this machine's own key, which is kept, so that sessions and tokens survive a restart."""
    path = var / "secret_key"
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(50))
    return path.read_text()


def environment(var: Path, port: int) -> dict[str, str]:
    """Return the environment of this process with the settings of local mode."""
    given = {name: value for name, value in os.environ.items() if value}
    defaults = {
        "SITE_URL": f"http://127.0.0.1:{port}",
        "STATIC_ROOT": str(var / "static"),
        # Less than the guardian's grace period, so that a worker can release its runs itself.
        "TASKRUNS_GRACE": "6",
    }
    if "SECRET_KEY" not in given:
        defaults["SECRET_KEY"] = secret_key(var)
    if os.geteuid() == 0:
        # Celery warns about root at length, once per worker. On one's own machine this is known.
        defaults["PYTHONWARNINGS"] = "ignore:You're running the worker with superuser privileges"
    if sys.stdout.isatty():
        defaults["FORCE_COLOR"] = "1"  # the processes write to a pipe, but we show their output on a terminal
    # Only the exporter serves metrics here. The other processes would need a port each.
    env = defaults | given | {"METRICS_PORT": "0", "LOCAL": "1", "VAR_DIR": str(var), "PYTHONUNBUFFERED": "1"}
    Path(env["STATIC_ROOT"]).mkdir(parents=True, exist_ok=True)
    return env


def worker(queue: Queue) -> list[str]:
    """Return the command of a queue's worker. It is the same as in its Deployment."""
    return [
        sys.executable, "-m", "celery", "-q", "-A", "app", "worker", "-Q", queue.name, "-n", f"{queue.name}@%h",
        "-P", queue.pool, "-c", str(queue.concurrency), "--without-gossip", "--without-mingle",
    ]  # fmt: skip


# No pid file: the lock of `make up` prevents a second beat, and a second beat would do no harm.
BEAT = [sys.executable, "-m", "celery", "-q", "-A", "app", "beat", "--pidfile="]


def web(port: int) -> list[str]:
    """Return the command of the web server. Its other options are in gunicorn.conf.py."""
    return [
        sys.executable, "-m", "gunicorn", "app.wsgi", "--bind", f"127.0.0.1:{port}",
        "--workers", "2", "--graceful-timeout", "6",
    ]  # fmt: skip


def stripe(env: dict[str, str]) -> list[str]:
    """Return the command of the stand-in for Stripe, and put its URL and keys into the environment."""
    port = free_port()
    env |= {
        "STRIPE_API_BASE": f"http://127.0.0.1:{port}",
        "STRIPE_SECRET_KEY": "sk_test_local",
        "STRIPE_WEBHOOK_SECRET": "whsec_local",
    }
    # Run by path, because it needs nothing from the application.
    return [sys.executable, "-P", str(Path(__file__).with_name("stripe.py")), str(port), env["STRIPE_SECRET_KEY"]]


def answers(url: str) -> bool:
    """Whether the web processes and their database answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own http URL
            return bool(response.status == 200)
    except OSError:
        return False


def services(env: dict[str, str], guardian: Guardian, supervisor: Supervisor) -> None:
    """Start the servers that the environment does not name, and add their URLs to it. Raises ServiceError."""
    folder = data_folder(Path(env["VAR_DIR"]))
    own: list[tuple[str, Service]] = []
    if not env.get("DATABASE_URL"):
        own.append(("DATABASE_URL", Postgres(folder)))
    if not env.get("REDIS_URL"):
        own.append(("REDIS_URL", Valkey(folder)))
    for name, service in own:
        service.start(guardian.watch)
        assert service.process is not None
        supervisor.adopt(service.name, service.process, partial(service.launch, guardian.watch))
        env[name] = service.url


def server(url: str, is_ours: bool) -> str:
    """Return the URL of a server, without its password unless the server is ours."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    if is_ours or ":" not in user:
        return url
    return parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}").geturl()


def links(base: str, exporter: int, env: dict[str, str], own: set[str], pids: dict[str, int], seconds: float) -> str:
    """Return the text that is printed once everything is ready. It lists only the example apps that are installed.

    ``own`` names the variables of the servers that are ours. Their passwords are printed, too.
    """
    var = Path(env["VAR_DIR"])
    lines = [
        ("API docs", f"{base}/api/docs/"),
        ("Admin", f"{base}/admin/   (admin, admin-demo-1)"),
        ("Tasks", f"{base}/admin/operations/"),
        *([("Feed", f"{base}/feed/")] if (PROJECT / "app" / "blog").is_dir() else []),
        ("Figures", f"http://127.0.0.1:{exporter}/metrics"),
        ("Mail", str(var / "mail")),
        ("PostgreSQL", server(env["DATABASE_URL"], "DATABASE_URL" in own)),
        ("Valkey" if "REDIS_URL" in own else "Redis", server(env["REDIS_URL"], "REDIS_URL" in own)),
    ]
    told = f"\nPressroom is ready after {seconds:.1f} s. Ctrl-C stops it; the data is kept.\n\n"
    told += "".join(f"    {name:16}{where}\n" for name, where in lines)
    if Path(__file__).with_name("demo.py").exists():
        demo = "runs through everything: mails to 1,000 subscribers, a cover, a report, a payment, a summary"
        told += f"\n    {'make demo':16}{demo}\n"
    told += f"    {'make shell':16}a Django shell, in another terminal; manage.py and celery work there, too\n"
    told += f"    {'make psql':16}a psql session on the database\n"
    told += "\n    Kill any of these processes: it restarts, and nothing is lost:\n"
    names = [f"{name} {pid}" for name, pid in pids.items()]
    told += "".join(f"        {', '.join(names[at : at + 5])}\n" for at in range(0, len(names), 5))
    return told


def main() -> int:
    started = time.monotonic()
    var = Path(os.environ.get("VAR_DIR") or PROJECT / "var").resolve()
    try:
        held = lock(var)
        given = {"PORT": os.environ.get("PORT") or "8000", "EXPORTER_PORT": os.environ.get("EXPORTER_PORT") or ""}
        ports = wanted_ports(**{name: text for name, text in given.items() if text})
    except Refused as refused:
        print(f"make up: {refused}", file=sys.stderr)
        return 1

    port = ports["PORT"]
    env = environment(var, port)
    own = {name for name in ("DATABASE_URL", "REDIS_URL") if not env.get(name)}
    workers = {f"worker-{queue.name}": worker(queue) for queue in QUEUES}
    printer = Printer(
        sys.stdout, ["up", "web", *workers, "beat", "relay", "exporter", "stripe", "migrate", "demo-data"]
    )
    # The guardian holds the lock too, so that no other `make up` starts before it has ended this one's processes.
    guardian = Guardian(keep_open=(held.fileno(),))
    supervisor = Supervisor(guardian, printer)
    supervisor.handle_signals()
    manage = [sys.executable, "manage.py"]
    try:
        services(env, guardian, supervisor)
        printer("up", f"services answer after {time.monotonic() - started:.1f} s")
        supervisor.run("migrate", [*manage, "migrate", "--no-input", "--verbosity", "1"], env)
        supervisor.run("demo-data", [*manage, "demo_data"], env)
        has_payments = (PROJECT / "app" / "payments").is_dir()
        stand_ins = {"stripe"} if has_payments and not env.get("STRIPE_SECRET_KEY") else set()
        if stand_ins:
            supervisor.start("stripe", stripe(env), env, ready="stripe: ready")
        # From now on, other processes can be started beside this one.
        running.write(var, env)
        supervisor.start("web", web(port), env)
        for name, command in workers.items():
            supervisor.start(name, command, env, ready=" ready.")
        supervisor.start("beat", BEAT, env, ready="beat: Starting...")
        supervisor.start("relay", [*manage, "relay"], env, ready="relay: ready")
        exporter = ports.get("EXPORTER_PORT") or free_port()
        supervisor.start(
            "exporter", [*manage, "exporter", "--host=127.0.0.1", f"--port={exporter}"], env, ready="exporter: ready"
        )
        base = f"http://127.0.0.1:{port}"
        supervisor.wait_ready(
            {*workers, *stand_ins, "beat", "relay", "exporter"}, lambda: answers(f"{base}/readyz"), READY_TIMEOUT
        )
        print(links(base, exporter, env, own, supervisor.pids(), time.monotonic() - started), flush=True)
        supervisor.wait()
    except ServiceError as error:
        printer("up", str(error))
        code = 1
    except Ended as ended:
        printer("up", f"{ended}: stopping")
        code = 0 if ended.wanted else 1
    finally:
        stopping = time.monotonic()
        running.forget(var)
        supervisor.stop()
    printer("up", f"everything ended after {time.monotonic() - stopping:.1f} s")
    return code


if __name__ == "__main__":
    os.chdir(PROJECT)
    sys.exit(main())
