"""The operations pages as people use them: with a mouse, a keyboard, a phone, a screen reader."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from PIL import Image
from playwright.sync_api import Page, expect

from pressroom import operator_actions
from pressroom.enqueue.ownership import owned_by
from pressroom.models import LiveRun, Pause, Status, TaskRun
from pressroom.operations.templatetags.operations import MARKS
from pressroom.sql import outages
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.dataset import Dataset, spread
from tests.support.probes import tasks
from tests.support.processes import ROOT
from tests.support.waiting import until

pytestmark = pytest.mark.xdist_group("browser")

Opened = Callable[..., Page]
PAGES = ("", "tasks/", "dead-letters/", "actions/", "workers/", "schedules/", "task", "action")


# A picture tells nothing of the machine it was taken on.
ELSEWHERE = """(pairs) => {
    const walker = document.createTreeWalker(document.getElementById("live"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) for (const [here, there] of pairs)
        walker.currentNode.data = walker.currentNode.data.replaceAll(here, there);
}"""


# What would have to be scrolled sideways.
WIDER = """[...document.querySelectorAll("#content, #content .ops-scroll, #content pre, #content table")]
    .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.id || one.className || one.tagName)"""


def path_of(name: str, dataset: Dataset) -> str:
    return {"task": f"tasks/{dataset.report.pk}/", "action": f"actions/{dataset.action.pk}/"}.get(name, name)


def width_of_content(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_each_page_keeps_to_the_rules_of_accessibility(
    dataset: Dataset, opened: Opened, name: str, scheme: str
) -> None:
    """WCAG 2.2 A and AA as far as axe can tell; and no complaint on the console under a strict policy."""
    page = opened(path_of(name, dataset), color_scheme=scheme)
    expect(page.locator("#live")).not_to_be_empty()
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    results = Axe().run(page, context="#content", options=options)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("name", PAGES)
def test_each_page_fits_on_a_phone(dataset: Dataset, opened: Opened, name: str) -> None:
    """Neither the page nor a part of it is wider than the screen. Of each row, the first column comes first."""
    page = opened(path_of(name, dataset), viewport=PHONE, has_touch=True, is_mobile=True)
    expect(page.get_by_role("navigation", name="Operations")).to_be_visible()
    for details in page.locator("#live details:not([open]) > summary").all():
        details.click()
    assert width_of_content(page) <= PHONE["width"]
    assert page.evaluate(WIDER) == []
    if name not in ("task", "action"):
        row = page.locator("#live tbody tr").first
        heading, cell = row.get_by_role("rowheader"), row.locator("td[data-label]").first
        assert heading.bounding_box()["y"] < cell.bounding_box()["y"]  # type: ignore[index]  # both are visible
        assert cell.evaluate("(cell) => getComputedStyle(cell, '::before').content").startswith('"')


@pytest.mark.parametrize("name", PAGES)
def test_each_page_fits_beside_the_admins_navigation(dataset: Dataset, opened: Opened, name: str) -> None:
    """On a screen of 1,280 pixels no table is cut off, so the buttons at its end are in sight."""
    page = opened(path_of(name, dataset))
    expect(page.locator("#live")).not_to_be_empty()
    assert width_of_content(page) <= DESKTOP["width"]
    assert page.evaluate(WIDER) == []


@pytest.mark.parametrize("name", PAGES)
def test_everything_is_reached_with_the_keyboard(dataset: Dataset, opened: Opened, name: str) -> None:
    page = opened(path_of(name, dataset))
    page.get_by_role("button", name="Pause updates").click()
    kinds = ("a[href]", "button", "input:not([type=hidden])", "select", "summary", ".ops-scroll")
    wanted = page.evaluate(
        "(all) => [...document.querySelectorAll(all)].filter((one) => one.checkVisibility()).length",
        ", ".join(f"#content {kind}" for kind in kinds),
    )
    page.evaluate("document.getElementById('content-start').focus()")
    reached = set()
    for _ in range(wanted * 3):
        page.keyboard.press("Tab")
        number = page.evaluate("[...document.querySelectorAll('#content *')].indexOf(document.activeElement)")
        if number < 0 and reached:
            break
        reached.add(number)
    assert len(reached - {-1}) == wanted


def test_the_admins_index_leads_there(dataset: Dataset, opened: Opened) -> None:
    page = opened("../")
    page.locator("#content-main").get_by_role("link", name="Overview", exact=True).click()
    expect(page.get_by_role("heading", name="Queues")).to_be_visible()
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="default"))
    # Running, workers, slots.
    assert [cell.inner_text().split()[0] for cell in row.get_by_role("cell").all()[2:5]] == ["2", "1", "2"]


def test_a_list_is_kept_up_to_date_without_a_reload(dataset: Dataset, opened: Opened) -> None:
    page = opened("tasks/")
    page.evaluate("window.same = true")
    name = page.get_by_role("checkbox", name="Select probe.effect", exact=False).first.get_attribute("id")
    page.locator(f"#{name}").check()
    with owned_by(dataset.root):
        run = TaskRun.of(tasks.effect.delay(str(dataset.stack.folder / "notes"), "just now"))
    expect(page.locator(f'a[href="/admin/operations/tasks/{run.pk}/"]')).to_be_visible()
    assert page.evaluate("window.same")
    expect(page.locator(f"#{name}")).to_be_checked()
    assert page.evaluate("document.activeElement.id") == name
    expect(page.locator("#selected")).to_have_text("1 selected")


def test_updates_rest_while_nobody_looks(dataset: Dataset, opened: Opened) -> None:
    page = opened()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "x-fragment" in request.headers else None)
    page.clock.install()
    page.reload()
    asked.clear()
    page.clock.fast_forward(6_000)
    until(lambda: page.evaluate("1") and len(asked) == 1, "an update after five seconds")

    page.get_by_role("button", name="Pause updates").click()
    page.clock.fast_forward(60_000)
    page.get_by_role("button", name="Pause updates").click()
    until(lambda: page.evaluate("1") and len(asked) == 2, "one update when it goes on, and none before")

    page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => window.away, configurable: true}); window.away = true"
    )
    page.wait_for_load_state("networkidle")
    page.clock.fast_forward(60_000)
    page.clock.fast_forward(60_000)
    page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    until(lambda: page.evaluate("1") and len(asked) == 3, "one update when somebody looks again, and none before")


def test_a_lost_server_is_told_and_forgotten(dataset: Dataset, opened: Opened) -> None:
    page = opened()
    page.clock.install()
    page.reload()
    page.route("**/*", lambda route: route.fulfill(status=503))
    page.clock.fast_forward(6_000)
    told = r"Not up to date since \d\d:\d\d:\d\d [+-]\d\d:\d\d: no answer from the server"
    expect(page.locator("#updates")).to_have_text(re.compile(told))
    page.unroute("**/*")
    page.clock.fast_forward(6_000)
    expect(page.locator("#updates")).to_be_empty()
    # The browser's own word on each 503, of which a slow machine's page gets more than one, and nothing else.
    assert {told.partition(": ")[2][:23] for told in opened.told} == {"Failed to load resource"}  # type: ignore[attr-defined]
    opened.told.clear()  # type: ignore[attr-defined]


def test_tasks_are_searched(dataset: Dataset, opened: Opened) -> None:
    page = opened("tasks/")
    page.get_by_label("Argument").fill("내일")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#live tbody tr")).to_have_count(1)
    expect(page.locator("#live tbody tr")).to_contain_text("cancelled")
    page.get_by_label("From", exact=True).fill("2030-01-02T00:00")
    page.get_by_label("To", exact=True).fill("2030-01-01T00:00")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("The end is not after the beginning.")).to_be_visible()


def test_a_tasks_page_shows_what_it_called(dataset: Dataset, opened: Opened) -> None:
    page = opened(f"tasks/{dataset.report.pk}/")
    tree = page.locator(".ops-tree")
    expect(tree.get_by_role("link", name="app.reports.tasks.build_section").first).to_be_visible()
    tree.get_by_role("link", name="app.reports.tasks.build_section").first.click()
    expect(page.locator(".ops-tree").get_by_role("link", name="app.reports.tasks.build_report")).to_be_visible()


def test_a_dead_letter_shows_its_traceback_and_runs_again(dataset: Dataset, opened: Opened) -> None:
    page = opened("dead-letters/")
    page.get_by_role("link", name="probe.fail").first.click()
    page.locator("#runs-table").get_by_role("link", name="probe.fail").first.click()
    expect(page.locator("#traceback-text")).to_contain_text("KeyError")
    dead = TaskRun.objects.get(pk=page.url.rstrip("/").rpartition("/")[2])
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_text("1 task run again.")).to_be_visible()
    assert TaskRun.objects.get(retry_of=dead).name == "probe.fail"
    expect(page.get_by_text("run again as")).to_contain_text("root")


def test_many_are_run_again_and_discarded_once_more_asked(dataset: Dataset, opened: Opened) -> None:
    runs = [TaskRun.of(tasks.fail.apply_async([f"bulk {n}"], queue="emails")) for n in range(3)]
    until(lambda: TaskRun.objects.filter(pk__in=[run.pk for run in runs], status=Status.DEAD).count() == 3, "they fail")
    page = opened("dead-letters/")
    for run in runs[:2]:
        page.locator(f"#run-{run.pk}").check()
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_text("Run again these 2?")).to_be_visible()
    assert not TaskRun.objects.filter(retry_of__in=runs).exists()
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_text("2 tasks run again.")).to_be_visible()
    assert TaskRun.objects.filter(retry_of__in=runs).count() == 2

    page.locator(f"#run-{runs[2].pk}").check()
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("link", name="Back", exact=True).click()
    assert TaskRun.objects.filter(pk=runs[2].pk).exists()
    page.locator(f"#run-{runs[2].pk}").check()
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_text("1 task discarded.")).to_be_visible()
    assert not TaskRun.objects.filter(pk=runs[2].pk).exists()
    assert LogEntry.objects.filter(object_id=str(runs[2].pk), user=dataset.root).exists()


def test_a_running_task_is_cancelled_and_its_page_tells(dataset: Dataset, opened: Opened) -> None:
    with owned_by(dataset.root):
        run = TaskRun.of(tasks.effect.apply_async(["/dev/null", "later"], countdown=3600))
    page = opened(f"tasks/{run.pk}/")
    page.get_by_role("button", name="Cancel").press("Enter")
    expect(page.locator(".ops-head")).to_contain_text("cancelled")
    run.refresh_from_db()
    assert run.status == Status.CANCELLED


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_all_that_match_are_cancelled_with_a_progress_bar(
    dataset: Dataset, opened: Opened, viewport: dict[str, int], tmp_path: Path
) -> None:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    width = f"{viewport['width']}"
    for number in range(60):
        tasks.effect.apply_async(["/dev/null", f"all at {width}: {number}"], countdown=3600)
    other = TaskRun.of(tasks.effect.apply_async(["/dev/null", "another"], countdown=3600))
    page = opened(f"tasks/?status=later&text=all+at+{width}", viewport=viewport)
    page.get_by_label("all that match").check()
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_text("60 runs")).to_be_visible()
    expect(page.get_by_text("argument all at")).to_be_visible()
    assert width_of_content(page) <= viewport["width"]
    page.screenshot(path=folder / f"operations-confirm-{width}.png")
    # The relay waits for one of the runs, so that the page is seen at work.
    with transaction.atomic():
        list(LiveRun.objects.select_for_update().filter(queue="default", run_at__gt=timezone.now()))
        page.get_by_role("button", name="Cancel 60").click()
        expect(page.locator("#told")).to_have_text("0 changed of 60.")
        expect(page.locator("progress")).to_be_visible()
        assert width_of_content(page) <= viewport["width"]
        page.screenshot(path=folder / f"operations-progress-{width}.png")
    expect(page.locator("#told")).to_have_text("60 changed.")
    expect(page.locator("progress")).to_have_count(0)
    assert TaskRun.objects.filter(status=Status.CANCELLED, pk__gt=dataset.held.pk).count() >= 60
    assert TaskRun.objects.get(pk=other.pk).status == Status.QUEUED
    expect(page.locator(".ops-log")).to_contain_text("cancelled, or asked to stop: 60 changed")


def test_a_waiting_run_is_moved_and_run_now(dataset: Dataset, opened: Opened) -> None:
    run = TaskRun.of(tasks.effect.apply_async(["/dev/null", "to be moved"], countdown=3600))
    page = opened(f"tasks/{run.pk}/")
    page.get_by_role("button", name="Move").click()
    page.get_by_role("button", name="Move").click()
    expect(page.get_by_text("Give a queue, a priority or both.")).to_be_visible()
    page.get_by_label("To the queue").select_option("emails")
    page.get_by_role("button", name="Move").click()
    expect(page.get_by_text("1 task moved.")).to_be_visible()
    run.refresh_from_db()
    assert run.queue == "emails"
    page.get_by_role("button", name="Run now").click()
    expect(page.locator(".ops-head")).to_contain_text("succeeded")


def test_schedules_are_paused_resumed_and_run_now(dataset: Dataset, opened: Opened) -> None:
    page = opened("schedules/")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="prune-task-runs"))
    row.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("paused")
    assert not PeriodicTask.objects.get(name="prune-task-runs").enabled
    row.get_by_role("button", name="Resume").click()
    expect(row).to_contain_text("on time")
    row.get_by_role("button", name="Run now").click()
    expect(page.get_by_text("prune-task-runs is run now.")).to_be_visible()
    run = TaskRun.objects.filter(name="pressroom.tasks.prune").latest("created_at")
    assert run.owner == dataset.root


def test_workers_are_alive_drained_or_lost(dataset: Dataset, opened: Opened) -> None:
    page = opened("workers/")
    alive = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="worker-default@"))
    expect(alive).to_contain_text("probe.hold")
    expect(alive).to_contain_text("MB")
    expect(page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="worker-reports@"))).to_contain_text(
        "drained"
    )
    expect(page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="worker-gone@"))).to_contain_text(
        "lost"
    )


def test_longer_times_are_chosen(dataset: Dataset, opened: Opened) -> None:
    page = opened()
    expect(page.get_by_role("heading", name="The last hour")).to_be_visible()
    for title, steps in (("24 hours", 24), ("7 days", 168)):
        page.get_by_role("navigation", name="Time").get_by_role("link", name=title).click()
        expect(page.get_by_role("heading", name=f"The last {title}")).to_be_visible()
        page.get_by_text("Show as a table").click()
        expect(page.locator("#past-table tbody tr")).to_have_count(steps)
        row = (
            page.locator("#by-task-table")
            .get_by_role("row")
            .filter(has=page.get_by_role("rowheader", name="probe.fail", exact=True))
        )
        assert int(row.get_by_role("cell").nth(1).inner_text()) >= 3


def test_each_status_has_a_sign_that_a_text_font_has(opened: Opened) -> None:
    """Not an empty box, as an emoji is without its font."""
    page = opened()
    drawn = """(text) => {
        const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
        context.font = "40px " + getComputedStyle(document.body).fontFamily;
        context.fillText(text, 10, 60);
        return canvas.toDataURL();
    }"""
    box = page.evaluate(drawn, "\U0010fffd")
    assert [name for name, mark in MARKS.items() if page.evaluate(drawn, mark[0]) == box] == []
    assert page.evaluate(drawn, "\U0010fffc") == box != page.evaluate(drawn, " "), "what no font has"


def test_redis_away_is_said_at_the_top(dataset: Dataset, opened: Opened) -> None:
    """Recorded as a relay does; tests/reliability stops a Redis."""
    page = opened("tasks/")
    outages.begin("redis", 90)
    try:
        expect(page.get_by_text("Redis is away since")).to_be_visible()
        phone = opened("workers/", viewport=PHONE, has_touch=True, is_mobile=True)
        expect(phone.get_by_text("Redis is away since")).to_be_visible()
        assert width_of_content(phone) <= PHONE["width"]
        assert Axe().run(phone, context="#content").violations_count == 0
    finally:
        outages.over("redis")
    expect(page.get_by_text("Redis is away since")).to_have_count(0)


@pytest.fixture
def standing(dataset: Dataset) -> Iterator[None]:
    """Everything that keeps a task from its start: pauses of a queue, a task and keys, a limit, and Redis away."""
    key = "customer of the north, with an account number: 4711-" + "0815-" * 20
    with owned_by(dataset.root):
        operator_actions.pause(kind="queue", name="reports", user=dataset.root)
        operator_actions.pause(kind="task", name="probe.traced", user=None)
        for one in (7, key):
            operator_actions.pause(kind="key", name="probe.limited_effect", key=one, user=dataset.root)
        operator_actions.limit_set(
            kind="task", name="probe.limited_effect", concurrency=3, rate="100/h", user=dataset.root
        )
        for number in range(12):
            tasks.limited_effect.delay("/dev/null", "one", number)
        tasks.effect.apply_async(["/dev/null", "paused"], queue="reports")
    outages.begin("redis", 100_000)
    yield
    outages.over("redis")
    operator_actions.limit_reset(kind="task", name="probe.limited_effect", user=dataset.root)
    for pause in Pause.objects.all():
        operator_actions.pause_end(pause=pause, user=dataset.root)


@pytest.mark.parametrize("span", ["1h", "24h", "7d"])
@pytest.mark.parametrize("on", ["desktop", "phone"])
def test_what_stands_still_and_a_week_fit_every_screen(
    dataset: Dataset, opened: Opened, standing: None, span: str, on: str
) -> None:
    """The overview with all its lines. Nothing is wider than the screen, and nothing is cut."""
    options = {"viewport": PHONE, "has_touch": True, "is_mobile": True} if on == "phone" else {}
    page = opened(f"?span={span}", **options)
    expect(page.get_by_text("Redis is away since")).to_be_visible()
    for details in page.locator("#live details:not([open]) > summary").all():
        details.click()
    assert width_of_content(page) <= (options or {"viewport": DESKTOP})["viewport"]["width"]
    assert page.evaluate(WIDER) == []
    assert Axe().run(page, context="#content").violations_count == 0


@pytest.mark.timeout(1200)  # twenty pictures
def test_screenshots(dataset: Dataset, opened: Opened, tmp_path: Path) -> None:
    """Of every page, to be looked at; into a folder of the repository only where SCREENSHOTS names it."""
    spread(3_500)
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    dead = TaskRun.objects.filter(status=Status.DEAD, name="probe.fail").latest("created_at")
    views = {
        "overview": ("", {}),
        "tasks": ("tasks/", {}),
        "task": (f"tasks/{dead.pk}/", {}),
        "task-tree": (f"tasks/{dataset.report.pk}/", {}),
        "dead-letters": ("dead-letters/", {}),
        "actions": ("actions/", {}),
        "action": (f"actions/{dataset.action.pk}/", {}),
        "action-phone": (f"actions/{dataset.action.pk}/", {"viewport": PHONE, "is_mobile": True}),
        "tasks-phone": ("tasks/", {"viewport": PHONE, "is_mobile": True}),
        "workers": ("workers/", {}),
        "schedules": ("schedules/", {}),
        "overview-dark": ("", {"color_scheme": "dark"}),
        "overview-phone": ("", {"viewport": PHONE, "is_mobile": True}),
    }
    for name in ("tasks", "task", "dead-letters", "workers", "schedules"):
        views[f"{name}-phone"] = (views[name][0], {"viewport": PHONE, "is_mobile": True})
    views["overview-week"] = ("?span=7d", {})
    views["overview-week-phone"] = ("?span=7d", {"viewport": PHONE, "is_mobile": True})
    for name, (path, options) in views.items():
        if "week" in name:
            spread(520_000)
        page = opened(path, **options)
        expect(page.locator("#live")).not_to_be_empty()
        page.evaluate(ELSEWHERE, [[str(ROOT), "/app"], [socket.gethostname(), "pod-1"]])
        picture = folder / f"operations-{name}.png"
        page.screenshot(path=picture, full_page="phone" in name)
        Image.open(picture).convert("RGB").quantize(64).save(picture, optimize=True)
        assert 5_000 < picture.stat().st_size < 250_000
