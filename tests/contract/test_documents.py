"""What the documents name is there: pages, anchors, files, functions, targets of make, commands, names of the chart."""

from __future__ import annotations

import argparse
import ast
import fnmatch
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery.bin.celery import celery as celery_program
from django.core.management import get_commands, load_command_class

from pressroom import checks
from pressroom.execution.outcome import CELERY_STATES
from pressroom.models import LIVE, WAITING, Status

ROOT = Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "deploy" / "helm" / "pressroom"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), CHART / "README.md"])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
NOT_OURS = re.compile(r"\w+://|mailto:")


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def code(page: Path) -> Iterator[str]:
    """What stands in backticks, and the commands of its consoles, whole."""
    yield from SPAN.findall(prose(page))
    for kind, text in FENCE.findall(page.read_text()):
        if kind == "console":
            commands = text.replace("\\\n", " ")
            for line in re.findall(r"^\$ (.+)$", commands, re.MULTILINE):
                yield from (part.strip() for part in re.split(r"&&|\|\||;|  +#.*", line) if part.strip())


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of the headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


@cache
def files() -> frozenset[str]:
    """Of the project, and its folders with a slash behind; without what tools make."""
    ignored = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()} | {".git", ".hypothesis"}
    found = set()
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in ignored]
        place = Path(folder).relative_to(ROOT)
        found |= {f"{place / name}/" for name in folders} | {str(place / name) for name in names}
    return frozenset(found)


@cache
def written_by_reader() -> frozenset[str]:
    """The files that docs/your-app.md has its reader write, and their folders."""
    page = ROOT / "docs" / "your-app.md"
    wholes = [re.match(r"# ([\w./-]+)\n", text) for _, text in FENCE.findall(page.read_text())]
    paths = {match[1] for match in wholes if match}
    return frozenset(paths | {f"{parent}/" for path in paths for parent in Path(path).parents})


FOLDERS = ("app", "pressroom", "tests", "docs", "deploy", "bench", ".ci", ".github")
FILE = re.compile(r"\.?[\w*-]+(?:\.[\w*-]+)*\.(?:py|md|yaml|yml|json|toml|txt|tpl|lock)")
PATH = re.compile(rf"(?:[\w.*-]+/)*{FILE.pattern}|(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*-]*")
MADE = (".venv/", ".tools/", "var/")


def is_there(path: str) -> bool:
    """Of the project, from its root or from a folder within it, as `ci/*-values.yaml`."""
    if path.startswith(MADE):
        return True
    wanted = {path, path.rstrip("/") + "/"}
    known = files() | written_by_reader()
    return any(fnmatch.fnmatch(name, one) or fnmatch.fnmatch(name, f"*/{one}") for one in wanted for name in known)


@pytest.mark.parametrize("name", NAMES)
def test_links(name: str) -> None:
    page = ROOT / name
    broken = []
    for link, image in LINK.findall(SPAN.sub("", prose(page))):
        target = link or image
        if NOT_OURS.match(target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_files(name: str) -> None:
    named = {text for text in SPAN.findall(prose(ROOT / name)) if PATH.fullmatch(text)}
    assert [path for path in sorted(named) if not is_there(path)] == []


@pytest.mark.parametrize("name", NAMES)
def test_targets_of_make(name: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    calls = [re.match(r"(?:[A-Z_]+=\S+ )*make (?:[A-Z_]+=\S+ )*([a-z][\w-]*)", text) for text in code(ROOT / name)]
    assert {match[1] for match in calls if match} <= targets


NAMES_IN_FILE = re.compile(r"((?:`[\w.]+`(?:, | and ))*`[\w.]+`)\s+in\s+`([\w/.-]+\.py)`")


@pytest.mark.parametrize("name", NAMES)
def test_functions(name: str) -> None:
    """Of "`this` and `that` in `a/module.py`" both are defined there: as a function, a class or a value."""
    missing = []
    for spans, path in NAMES_IN_FILE.findall(prose(ROOT / name)):
        text = (ROOT / path).read_text() if (ROOT / path).exists() else ""
        for one in SPAN.findall(spans):
            last = one.rpartition(".")[2]
            if not re.search(rf"\b(?:def|class) {last}\b|\b{last}(?:, \w+)* ?[:=]", text):
                missing.append(f"{one} in {path}")
    assert missing == []


def options_of(parser: argparse.ArgumentParser, words: list[str]) -> set[str]:
    """The options that these words may have, by subcommand where there are such. Raises AssertionError."""
    known = set(parser._option_string_actions)
    named = next((word.split("|") for word in words if not word.startswith("-")), [])
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert set(named) <= set(action.choices), f"{named} of {set(action.choices)}"
            known |= {
                option for one in named or action.choices for option in action.choices[one]._option_string_actions
            }
    return known


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_manage_py(name: str) -> None:
    for text in code(ROOT / name):
        if not (match := re.search(r"\bmanage\.py (\w+)(.*)", text)):
            continue
        command, rest = match[1], match[2].split()
        assert command in get_commands(), text
        provider = get_commands()[command]
        loaded = load_command_class(provider, command) if isinstance(provider, str) else provider
        given = {word.partition("=")[0] for word in rest if word.startswith("--") and len(word) > 2}
        assert given <= options_of(loaded.create_parser("manage.py", command), rest), text


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_celery(name: str) -> None:
    for text in code(ROOT / name):
        if not (match := re.match(r"(?:\S*/)?celery (?:-q )?(?:-A app )?([a-z]\w+)\b(.*)", text)):
            continue
        command: Any = celery_program.commands.get(match[1])
        assert command is not None, text
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        given = {word.partition("=")[0] for word in match[2].split() if word.startswith("--")}
        assert given <= known, text


VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
RENDERED = (ROOT / "deploy" / "kustomize" / "base" / "pressroom.yaml").read_text()


def is_value(path: str) -> bool:
    """Whether the chart has it; below a free mapping, and of a queue, anything that a worker has."""
    at: Any = VALUES
    names = path.split(".")
    if names[0] in ("redis", "postgres"):
        names, at = (
            names[1:],
            yaml.safe_load((CHART / "charts" / names[0] / "values.yaml").read_text()) | VALUES[names[0]],
        )
    if names[0] == "workers":
        names = ["worker", *names[2:]]
    for name in names:
        if at in ({}, None):
            return True
        if not isinstance(at, dict) or name not in at:
            return False
        at = at[name]
    return True


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_chart(name: str) -> None:
    """Values that are set, components that are selected, and objects, of a release called ``press``."""
    components = set(re.findall(r"app\.kubernetes\.io/component: (\S+)", RENDERED))
    objects = set(re.findall(r"^  name: (\S+)$", RENDERED, re.MULTILINE))
    for text in code(ROOT / name):
        for group in re.findall(r"--set(?:-string)? (\S+)", text):
            for path in re.findall(r"(?:^|,)([\w.]+)=", group):
                assert is_value(path), text
        for component in re.findall(r"component=([\w-]+)(?![\w<-])", text):
            assert component in components, text
        # The servers are called by the release, the rest by release and chart; a pod of theirs has a number.
        for one in re.findall(r"\bpress-((?:pressroom|postgres|redis)[\w-]*)(?![\w<-])", text):
            known = one if one.startswith("pressroom") else f"pressroom-{one}"
            assert re.sub(r"-0$", "", known) in objects, text


def test_each_of_these_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A b, `c`\n`no` in `app/queues.py`\n"
        "[no page](no.md) [no anchor](#a-b) [an anchor](#a-b-c) `app/no.py` `make no` `manage.py no`\n"
        "`manage.py migrate --no` `manage.py deadletters no` `celery -A app worker --no`\n"
        "```console\n$ helm install press --set no=1\n```\n`component=no` `press-pressroom-no`\n"
    )
    tests = [
        test_links, test_files, test_functions, test_targets_of_make, test_commands_of_manage_py,
        test_commands_of_celery, test_names_of_the_chart,
    ]  # fmt: skip
    for test in tests:
        with pytest.raises(AssertionError):
            test(str(page))
    assert anchors(page) == {"a-b-c"}
    assert list(code(page))[-4:] == [
        "celery -A app worker --no",
        "component=no",
        "press-pressroom-no",
        "helm install press --set no=1",
    ]


def documented_queues() -> dict[str, str]:
    """The queue of each task in docs/tasks.md; one in brackets says otherwise for a task of its row."""
    table = (ROOT / "docs" / "tasks.md").read_text().partition("\n|---")[2]
    found = {}
    for row in re.findall(r"^\| .+$", table, re.MULTILINE):
        _, _, names, queue, *_ = (cell.strip() for cell in row.split("|"))
        exceptions = dict(re.findall(r"`(\w+)`: (\w+)", queue))
        for name in re.findall(r"`(\w+)`", names):
            found[name] = exceptions.get(name, queue.partition(" ")[0])
    return found


def test_the_page_of_tasks_has_each_task_and_its_queue() -> None:
    tasks = [task for task in checks.our_tasks() if task.name.startswith(("app.", "pressroom."))]
    assert documented_queues() == {task.name.rpartition(".")[2]: checks.queue_of(task) for task in tasks}


ARCHITECTURE = ROOT / "docs" / "architecture.md"
GLOSSARY = ROOT / "docs" / "glossary.md"


def folders_in_first_column(page: Path, within: str) -> set[str]:
    """The folders of ``within`` that rows of the page's tables are about."""
    return set(re.findall(rf"^\| `{within}/(\w+)/` \|", page.read_text(), re.MULTILINE))


@pytest.mark.parametrize(("page", "within"), [("docs/architecture.md", "pressroom"), ("CONTRIBUTING.md", "tests")])
def test_each_folder_of_a_package_is_explained(page: str, within: str) -> None:
    there = {path.parent.name for path in (ROOT / within).glob("*/__init__.py")} - {"migrations"}
    assert folders_in_first_column(ROOT / page, within) == there


def test_the_page_of_the_architecture_has_the_layers_that_lint_holds() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract.get("containers") == ["pressroom"]]
    [drawn] = [text for kind, text in FENCE.findall(ARCHITECTURE.read_text()) if not kind]
    assert [re.split(r" {2,}", line)[0] for line in drawn.splitlines()] == layers


def drawn_transitions() -> set[tuple[str, str]]:
    """From and to, in the diagram of the glossary; "" stands for its beginning and its end."""
    [diagram] = [text for kind, text in FENCE.findall(GLOSSARY.read_text()) if text.startswith("stateDiagram")]
    arrows = re.findall(r"^ +(\S+) --> ([^\s:]+)", diagram, re.MULTILINE)
    return {(start.replace("[*]", ""), end.replace("[*]", "")) for start, end in arrows}


def listed_transitions() -> set[tuple[str, str]]:
    """The same, in the table below it."""
    table = GLOSSARY.read_text().partition("| from | to |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (\w*) ?\| (\w+) \|", table, re.MULTILINE)
    return {(start, end) for first, end in rows for start in (WAITING if first == "waiting" else [first])}


def test_the_diagram_of_a_run_has_each_status() -> None:
    assert {state for arrow in drawn_transitions() for state in arrow} == {"", *Status.values}


def test_the_diagram_of_a_run_ends_where_runs_end() -> None:
    assert {start for start, end in drawn_transitions() if not end} == set(Status.values) - set(LIVE)


def test_the_diagram_of_a_run_has_the_transitions_of_the_table() -> None:
    assert {arrow for arrow in drawn_transitions() if arrow[1]} == listed_transitions()


def test_the_glossary_has_celerys_state_for_each_status() -> None:
    rows = re.findall(r"^\| (\w+) \| [^|]+ \| ([A-Z]+) \|$", GLOSSARY.read_text(), re.MULTILINE)
    assert dict(rows) == CELERY_STATES


def test_the_glossary_is_in_order() -> None:
    words = re.findall(r"^\*\*([^*]+)\*\*:", GLOSSARY.read_text(), re.MULTILINE)
    assert len(words) > 20
    assert words == sorted(words)


METRICS = ROOT / "docs" / "metrics.md"
MAKE_METRICS = (
    "pressroom/monitoring/exporter.py",
    "pressroom/monitoring/counters.py",
    "app/observability/web_metrics.py",
)


def test_the_page_of_metrics_has_each_of_them() -> None:
    sources = "".join((ROOT / name).read_text() for name in MAKE_METRICS)
    told = re.findall(r"^\| `((?:celery|pressroom)_\w+)` \|", METRICS.read_text(), re.MULTILINE)
    assert len(told) > 40
    assert sorted(name.removesuffix("_total") for name in told) == sorted(
        set(re.findall(r'"((?:celery|pressroom)_\w+)"', sources))
    )


def test_the_page_of_metrics_has_each_alert_and_its_severity() -> None:
    rules = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    told = re.findall(r"^\| \[(\w+)\]\(runbooks/\w+\.md\) \| (\w+) \|", METRICS.read_text(), re.MULTILINE)
    assert told == [(rule["alert"], rule["labels"]["severity"]) for group in rules for rule in group["rules"]]


def imported_by(path: Path) -> set[str]:
    """The modules that a file needs at once, not those that a function of it imports."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def test_no_test_that_a_project_of_ones_own_keeps_imports_what_the_page_removes() -> None:
    """docs/your-app.md removes the example's apps together with tests. The tests that stay go on without them."""
    patterns = " ".join(re.findall(r"^\$ rm -r (.+)$", (ROOT / "docs" / "your-app.md").read_text(), re.MULTILINE))
    # The shell takes the braces apart, and leaves a pattern that no file fits as it is.
    shell = ["bash", "-c", f"printf '%s\\n' {patterns}"]
    names = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    removed = {ROOT / name for name in names if (ROOT / name).exists()}
    assert ROOT / "tests" / "e2e" in removed
    modules = tuple(".".join(path.relative_to(ROOT).with_suffix("").parts) + "." for path in removed)
    found = {
        str(path.relative_to(ROOT)): needed
        for path in (ROOT / "tests").rglob("*.py")
        if not removed & {path, *path.parents}
        and (needed := {name for name in imported_by(path) if f"{name}.".startswith(modules)})
    }
    assert found == {}
