"""What docs/settings.md and CONTRIBUTING.md say is so, and what the Makefile promises is there."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.plugin import StrayConnection, settings_names

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS = ROOT / "app" / "settings.py"


def documented_settings() -> list[tuple[str, str]]:
    """The first two columns of the tables in docs/settings.md: each variable and its default."""
    page = (ROOT / "docs" / "settings.md").read_text()
    return re.findall(r"^\| `([A-Z]\w*)` \| ([^|]+) \|", page, re.MULTILINE)


def test_the_page_of_settings_has_every_variable_that_is_read_and_no_other() -> None:
    assert "DATABASE_URL" in settings_names()
    assert sorted(name for name, _ in documented_settings()) == sorted(settings_names())


def constant_defaults() -> dict[str, object]:
    """The defaults in app/settings.py that name nothing else, by variable."""
    found = {}
    for node in ast.walk(ast.parse(SETTINGS.read_text())):
        if not isinstance(node, ast.Call) or not ast.unparse(node.func).startswith("env."):
            continue
        default = next((keyword.value for keyword in node.keywords if keyword.arg == "default"), None)
        if default is not None and not any(isinstance(part, ast.Name | ast.Call) for part in ast.walk(default)):
            name = ast.literal_eval(node.args[0])
            found[name] = eval(ast.unparse(default))  # noqa: S307 - constants of our own, such as 10 * 1024
    return found


def test_the_page_of_settings_has_the_defaults_of_the_code() -> None:
    """What is empty by default is described in words, which this test does not read."""
    defaults, documented = constant_defaults(), dict(documented_settings())
    assert len(defaults) > 50
    wrong = {}
    for name, value in defaults.items():
        if isinstance(value, bool):
            text = "on" if value else "off"
        elif isinstance(value, int | float):
            text = f"{int(value) if value == int(value) else value}"
        elif isinstance(value, str) and value:
            text = f"`{value}`"
        else:
            continue
        if re.split(r"[ ;]+(?=with |in |`\*)", documented[name])[0] != text:
            wrong[name] = documented[name], text
    assert wrong == {}


def test_settings_read_the_environment_in_no_other_way() -> None:
    assert "os.environ" not in SETTINGS.read_text()


RULES = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
TARGETS = sorted(RULES - {"install-local"})  # a part of `make up`


@pytest.mark.parametrize("target", TARGETS)
def test_make_help_tells_of_each_target(target: str) -> None:
    told = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.search(rf"^  make {target} +\S", told.stdout, re.MULTILINE)


def test_the_guide_for_contributors_names_the_commands_that_ci_runs() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    ci = (ROOT / ".ci" / "run").read_text()
    for command in ("make lint", "make verify", "make test"):
        assert re.search(rf"^{command}\b", ci, re.MULTILINE)
        assert f"`{command}`" in guide


@pytest.mark.parametrize("url", ["http://192.0.2.1/", "http://press.example/"])
def test_no_test_reaches_another_machine(url: str) -> None:
    import urllib.request

    with pytest.raises(StrayConnection):
        urllib.request.urlopen(url, timeout=1)


@pytest.mark.slow
@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_a_skipped_test_fails_ci(tmp_path: Path, ci: str, code: int) -> None:
    (tmp_path / "test_it.py").write_text("import pytest\ndef test_it(): pytest.skip('not today')\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "pyproject.toml", "--rootdir=.", tmp_path],
        cwd=ROOT, env={**os.environ, "CI": ci}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    assert "not today" in done.stdout


def test_each_check_has_a_number_of_its_own() -> None:
    numbers = [
        number
        for package in ("app", "pressroom")
        for path in (ROOT / package).rglob("*.py")
        for number in re.findall(r'id="(pressroom\.[EW]\d+)"', path.read_text())
    ]
    assert len(numbers) > 20
    assert len(set(numbers)) == len(numbers)


def test_the_lock_names_public_hosts_alone() -> None:
    hosts = set(re.findall(r'(?:url|registry) = "https?://([^/"]+)', (ROOT / "uv.lock").read_text()))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_no_folder_has_more_than_18_modules() -> None:
    full = {
        str(folder.relative_to(ROOT)): len(modules)
        for package in ("app", "pressroom")
        for folder in [ROOT / package, *(ROOT / package).rglob("*/")]
        if folder.name != "migrations"
        and len(modules := [path for path in folder.glob("*.py") if path.name != "__init__.py"]) > 18
    }
    assert full == {}


def functions_of(path: Path) -> set[str]:
    return set(re.findall(r"^def ([a-z]\w*)", path.read_text(), re.MULTILINE))


def test_what_settles_a_run_shares_no_name_with_the_statements() -> None:
    """`settle` writes an end and tells Celery. Were a statement named alike, a wrong import would skip the telling."""
    statements = list((ROOT / "pressroom" / "sql").glob("*.py"))
    settling = functions_of(ROOT / "pressroom" / "execution" / "settle.py")
    assert settling
    assert {path.stem: settling & functions_of(path) for path in statements if settling & functions_of(path)} == {}
    names = [name for path in statements for name in functions_of(path)]
    assert sorted(set(names)) == sorted(names)


def test_the_library_names_no_module_of_the_site() -> None:
    """Not even in a string: import-linter holds the imports."""
    site = {f"app.{path.stem}" for path in (ROOT / "app").iterdir() if path.is_dir() or path.suffix == ".py"}
    names = re.compile(r"\b" + r"\b|\b".join(re.escape(name) for name in sorted(site)) + r"\b|\bapp/\w")
    found = {
        str(path.relative_to(ROOT)): names.findall(path.read_text())
        for path in (ROOT / "pressroom").rglob("*")
        if path.suffix in {".py", ".html", ".js", ".css"} and names.search(path.read_text())
    }
    assert found == {}


def test_no_file_is_longer_than_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for package in ("app", "pressroom")
        for path in (ROOT / package).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}
