"""``make demo``: acts as a reader, an author and an editor over HTTP, and shows when the started tasks were done."""

from __future__ import annotations

import io
import os
import re
import secrets
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

TIMEOUT = 300.0
"""Seconds until the tasks count as stuck. This only guards against a hang: a laptop needs a few seconds."""
POLL = 0.25
"""Seconds between two polls of the tasks."""
FINAL = {"succeeded", "failed", "cancelled", "expired"}
SUMMARY = "app.reports.tasks.send_daily_summary"


class DemoError(Exception):
    """The demo failed. The text says why."""


class Refused(DemoError):
    """The status of an answer is not the expected one."""

    def __init__(self, response: httpx.Response, status: int) -> None:
        self.response = response
        asked = response.request
        super().__init__(
            f"{asked.method} {asked.url}: {response.status_code} instead of {status}: {response.text[:500]}"
        )


@dataclass
class Started:
    """A request, its duration, and the tasks that it started."""

    title: str
    request_ms: float
    tasks: list[dict[str, Any]]


class Api:
    """A client of the API for one user."""

    def __init__(self, base_url: str) -> None:
        self._client = httpx.Client(base_url=base_url, timeout=30.0, follow_redirects=True)

    def request(self, method: str, url: str, status: int, **options: Any) -> tuple[httpx.Response, float]:
        """Return the answer and its duration in milliseconds. Raises Refused for any other status."""
        started = time.perf_counter()
        try:
            response = self._client.request(method, url, **options)
        except httpx.HTTPError as error:
            raise DemoError(f"{method} {self._client.base_url.join(url)}: {error}; is `make up` running?") from error
        taken = (time.perf_counter() - started) * 1000
        if response.status_code != status:
            raise Refused(response, status)
        return response, taken

    def call(self, method: str, url: str, status: int, body: dict[str, Any] | None = None) -> tuple[Any, float]:
        """Return the JSON of the answer and its duration in milliseconds. Raises Refused for any other status."""
        response, taken = self.request(method, url, status, json=body)
        return response.json(), taken

    def sign_in(self, username: str, password: str) -> None:
        tokens, _ = self.call("POST", "/api/auth/login/", 200, {"username": username, "password": password})
        self._client.headers["Authorization"] = f"Bearer {tokens['access']}"

    def sign_in_to_admin(self, username: str, password: str) -> None:
        """Sign in to the admin as a browser does."""
        self.submit("/admin/login/", {"username": username, "password": password, "next": "/admin/"})

    def submit(self, url: str, form: dict[str, Any]) -> None:
        """Submit a form of the admin."""
        self.request("GET", url, 200)
        token = self._client.cookies["csrftoken"]
        headers = {"Referer": str(self._client.base_url.join(url))}
        self.request("POST", url, 200, data={**form, "csrfmiddlewaretoken": token}, headers=headers)


def register(base_url: str) -> tuple[Api, Started]:
    """Register a new reader and sign in. The welcome mail follows."""
    api = Api(base_url)
    name, password = f"reader-{secrets.token_hex(4)}", secrets.token_urlsafe(12)
    body = {"username": name, "email": f"{name}@example.com", "password": password}
    answer, taken = api.call("POST", "/api/auth/register/", 201, body)
    api.sign_in(name, password)
    return api, Started("register a reader", taken, [answer["welcome_task"]])


def publish(base_url: str) -> tuple[Api, list[Started], dict[str, Any]]:
    """Write and publish a post with a cover, as the demo's author."""
    api = Api(base_url)
    api.sign_in("author", "author-demo-1")
    body = {"title": f"News of {datetime.now(UTC):%d %B %Y, %H:%M:%S}", "body": "A thousand mails, and none twice."}
    post, _ = api.call("POST", "/api/posts/", 201, body)
    picture = {"content": gradient(), "headers": {"Content-Type": "image/jpeg"}}
    covered, uploading = api.request("POST", f"/api/posts/{post['id']}/cover/", 202, **picture)
    published, publishing = api.call("POST", f"/api/posts/{post['id']}/publish/", 200)
    started = [
        Started("upload its cover", uploading, [covered.json()]),
        Started("publish a post", publishing, published["tasks"]),
    ]
    return api, started, post


def gradient() -> bytes:
    """Return an image like one from a camera: large, and with metadata about its place."""
    across, down = Image.linear_gradient("L").rotate(90), Image.linear_gradient("L")
    image = Image.merge("RGB", (across, down, Image.new("L", across.size, 160))).resize((2400, 1600))
    notes = Image.Exif()
    notes[0x010E] = "at home"  # ImageDescription
    file = io.BytesIO()
    image.save(file, "JPEG", exif=notes)
    return file.getvalue()


def order_report(api: Api) -> tuple[Started, str]:
    """Order a PDF report of this month. Returns what was started and the URL of the report."""
    body = {"type": "activity", "period": f"{datetime.now(UTC):%Y-%m}", "format": "pdf"}
    answer, taken = api.call("POST", "/api/reports/", 202, body)
    return Started("order a report", taken, [answer]), answer["report"]


def pay(api: Api) -> tuple[Started, str] | None:
    """Order a plan and pay it with a test card. Returns the URL of the order too, or None without payments."""
    order, _ = api.call("POST", "/api/orders/", 201, {"plan": "monthly"})
    url, card = f"/api/orders/{order['id']}/", {"payment_method": "pm_card_visa"}
    try:
        task, taken = api.call("POST", f"{url}pay/", 202, card)
    except Refused as error:
        if error.response.status_code == 409 and "does not accept payments" in error.response.text:
            return None
        raise
    return Started("pay an order", taken, [task]), url


def summarise(base_url: str) -> tuple[Api, Started]:
    """Send the daily summary out of turn: an editor runs its schedule in the admin."""
    api = Api(base_url)
    api.sign_in_to_admin("admin", "admin-demo-1")
    summaries = f"/api/tasks/?name={SUMMARY}"
    before = {task["id"] for task in api.call("GET", summaries, 200)[0]["results"]}
    schedules = "/admin/django_celery_beat/periodictask/"
    page, _ = api.request("GET", f"{schedules}?q=send-daily-summary", 200)
    [number] = re.findall(r'name="_selected_action" value="(\d+)"', page.text)
    began = time.perf_counter()
    api.submit(schedules, {"action": "run_now", "_selected_action": number})
    taken = (time.perf_counter() - began) * 1000
    tasks = [task for task in api.call("GET", summaries, 200)[0]["results"] if task["id"] not in before]
    if not tasks:
        raise DemoError("the admin did not run the schedule send-daily-summary")
    return api, Started("run a schedule in the admin", taken, tasks)


def follow(started: list[tuple[Api, Started]]) -> None:
    """Poll the tasks until all are done. Raises DemoError if one failed or after the time-out."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        for api, what in started:
            what.tasks = [
                task if task["status"] in FINAL else api.call("GET", f"/api/tasks/{task['id']}/", 200)[0]
                for task in what.tasks
            ]
        tasks = [task for _, what in started for task in what.tasks]
        show_progress(tasks)
        if all(task["status"] in FINAL for task in tasks):
            break
        if time.monotonic() > deadline:
            left = ", ".join(task["name"] for task in tasks if task["status"] not in FINAL)
            raise DemoError(f"not done within {TIMEOUT:.0f} s: {left}")
        time.sleep(POLL)
    failed = [f"{task['name']}: {task['status']}, {task['error']}" for task in tasks if task["status"] != "succeeded"]
    if failed:
        raise DemoError("; ".join(failed))


def show_progress(tasks: list[dict[str, Any]]) -> None:
    """Print the progress on one line of a terminal, overwriting it each time."""
    if not sys.stdout.isatty():
        return
    done = sum(fraction(task) for task in tasks) / len(tasks)
    finished = sum(task["status"] in FINAL for task in tasks)
    said = " ".join(f"{p['current']}/{p['total']}" for task in tasks if (p := task["progress"])["total"])
    bar = "█" * round(done * 40)
    end = "\n" if finished == len(tasks) else ""
    print(f"\r{bar.ljust(40, '░')} {finished} of {len(tasks)} tasks done  {said}\033[K", end=end, flush=True)


def fraction(task: dict[str, Any]) -> float:
    """Return how much of the task is done, from 0 to 1."""
    if task["status"] in FINAL:
        return 1.0
    progress = task["progress"]
    return progress["current"] / progress["total"] if progress["total"] else 0.0


def milliseconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() * 1000


def mails(task: dict[str, Any]) -> int:
    """Return the number of mails that the task has sent."""
    if task["name"].endswith(".send_welcome_email"):
        return 1
    return int(task["result"]) if task["name"].endswith((".notify_subscribers", ".send_daily_summary")) else 0


def artefacts(api: Api, post: dict[str, Any], report: str, folder: Path) -> list[tuple[str, str]]:
    """Open and check the results. Returns the name and place of each. Raises DemoError if one is not as expected."""
    page, _ = api.request("GET", post["url"], 200)
    found = [("post", post["url"])]
    covers = api.call("GET", f"/api/posts/{post['id']}/", 200)[0]["cover"]
    for width, url in sorted(covers.items(), key=lambda pair: int(pair[0])):
        image = Image.open(io.BytesIO(api.request("GET", url, 200)[0].content))
        if (image.format, image.width) != ("WEBP", int(width)) or image.getexif():
            raise DemoError(f"{url} is not a WebP of {width} pixels without metadata")
        found.append((f"cover, {width} px", url))
    if not any(httpx.URL(url).path in page.text for url in covers.values()):
        raise DemoError(f"{post['url']} does not show its cover")
    made, _ = api.call("GET", report, 200)
    content = api.request("GET", made["download"], 200)[0].content
    if not (content.startswith(b"%PDF-") and content.rstrip().endswith(b"%%EOF") and len(content) == made["size"]):
        raise DemoError(f"{made['download']} is not a complete PDF")
    count = api.call("GET", "/api/subscriptions/count/", 200)[0]["count"]
    if not count:
        raise DemoError("the author has no subscribers")
    found.append(("subscribers", f"{count:,} confirmed, of the author alone"))
    folder.mkdir(parents=True, exist_ok=True)
    pdf = folder / f"report-{made['id']}.pdf"
    pdf.write_bytes(content)
    return [*found, (f"report, {len(content) / 1024:.0f} KiB", str(pdf))]


def order_of(api: Api, url: str) -> list[tuple[str, str]]:
    """Return the order, which must be paid. Raises DemoError otherwise."""
    order, _ = api.call("GET", url, 200)
    if order["status"] != "paid":
        raise DemoError(f"the order is {order['status']}: {order['failure']}")
    return [(f"{order['amount']:,} {order['currency'].upper()} paid", f"order {order['id']}")]


def timeline(started: list[Started]) -> str:
    """Return the timeline as text. The times of a task are the database's, counted from the commit of its request."""
    lines = ["", f"{'':36}{'request':>9}{'start':>9}{'done':>9}{'mails':>7}", f"{'':36}" + f"{'ms':>9}" * 3]
    for what in started:
        lines.append(f"{what.title:36}{what.request_ms:9.0f}")
        for task in what.tasks:
            start = milliseconds(task["created_at"], task["started_at"])
            done = milliseconds(task["created_at"], task["finished_at"])
            lines.append(f"  {task['name'].rpartition('.')[2]:34}{'':9}{start:9.0f}{done:9.0f}{mails(task) or '':>7}")
    total = sum(mails(task) for what in started for task in what.tasks)
    return "\n".join([*lines, "", f"{total:,} mails sent; the requests did not wait for any of them."])


def main(base_url: str) -> int:
    folder = Path(os.environ.get("VAR_DIR") or "var").resolve()
    try:
        reader, registered = register(base_url)
        author, published, post = publish(base_url)
        ordered, report = order_report(author)
        paid = pay(reader)
        editor, summarised = summarise(base_url)
        started = [(reader, registered), *((author, what) for what in published), (author, ordered),
                   *([(reader, paid[0])] if paid else []), (editor, summarised)]  # fmt: skip
        follow(started)
        opened = artefacts(author, post, report, folder / "demo")
        opened += order_of(reader, paid[1]) if paid else [("no payment", "STRIPE_SECRET_KEY is not set there")]
    except DemoError as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 1
    print(timeline([what for _, what in started]))
    print("\nThe results, opened and checked:\n")
    for what, where in opened:
        print(f"  {what:24}{where}")
    if (folder / "mail").is_dir():
        print(f"  {'mails':24}{folder / 'mail'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
