"""GitHub's workflows are valid, run what the Makefile has, and may do no more than they need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.tools import Refused, run, tool
from tests.matrix.cells import CELLS

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)

MAY = {
    ("release.yml", "publish"): {
        "contents": "read", "packages": "write", "id-token": "write", "attestations": "write",
    },
    ("release.yml", "release"): {"contents": "write"},
}  # fmt: skip
"""The jobs that may do more than read the repository."""


def read(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text())
    assert isinstance(found, dict)
    return found


def steps_of(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job.get("steps", [])]


def lint(*paths: Path) -> str:
    # Not with whatever shellcheck and pyflakes a machine may have.
    command = [tool("actionlint", "ACTIONLINT"), "-shellcheck=", "-pyflakes=", "-no-color"]
    return run(*command, *map(str, paths))


def test_they_are_valid() -> None:
    assert WORKFLOWS
    assert lint(*WORKFLOWS) == ""


def test_a_wrong_one_would_be_seen(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("on: push\njobs: {a: {runs-on: ubuntu-24.04, steps: [{run: 'echo ${{ no.thing }}'}]}}\n")
    with pytest.raises(Refused):
        lint(wrong)


@each_workflow
def test_they_run_what_is_there(path: Path) -> None:
    text = path.read_text()
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for step in steps_of(path):
        assert set(re.findall(r"(?:^|[;&|] *)make ([a-z][\w-]*)", step.get("run", ""), re.MULTILINE)) <= targets
    for name in re.findall(r"(?:run|uses): \.?/?(\.\w+/\S+)", text):
        assert (ROOT / name).exists()
    for name in re.findall(r"\bpython3 (\S+\.py)\b", text):
        assert (ROOT / name).exists()


@each_workflow
def test_each_action_is_named_by_its_commit(path: Path) -> None:
    """With its version behind, which Renovate changes with the commit."""
    for named in re.findall(r"\buses: (.+)$", path.read_text(), re.MULTILINE):
        assert named.startswith("./.github/workflows/") or re.fullmatch(
            r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", named
        ), named


def test_all_workflows_use_the_same_commit_of_an_action() -> None:
    used = {step["uses"] for path in WORKFLOWS for step in steps_of(path) if "uses" in step}
    assert len(used) == len({name.partition("@")[0] for name in used})


@each_workflow
def test_a_job_may_do_no_more_than_it_needs(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("permissions") == MAY.get((path.name, name))


@each_workflow
def test_the_token_of_a_checkout_is_not_left_on_the_disk(path: Path) -> None:
    for step in steps_of(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@each_workflow
def test_no_command_is_composed_of_what_others_may_write(path: Path) -> None:
    """A branch may be named `$(…)`: values reach the shell as variables."""
    for step in steps_of(path):
        assert "${{" not in step.get("run", "")


def test_a_scheduled_workflow_looks_for_vulnerabilities_of_what_is_locked() -> None:
    workflow = read(FOLDER / "audit.yml")
    # YAML takes `on` for true.
    assert workflow[True]["schedule"]
    assert "make audit" in [step.get("run") for step in steps_of(FOLDER / "audit.yml")]


def test_each_combination_of_versions_runs_somewhere() -> None:
    """Where a cell is named, a machine that cannot hold it fails."""
    jobs = read(FOLDER / "test.yml")["jobs"]
    named = [name for one in jobs["versions"]["strategy"]["matrix"]["include"] for name in one["cells"].split()]
    assert sorted(named) == sorted(cell.name for cell in CELLS)
    assert 'make test-matrix CELLS="$CELLS"' in [step.get("run") for step in jobs["versions"]["steps"]]


class TestRelease:
    path = FOLDER / "release.yml"
    job = read(path)["jobs"]["publish"]
    steps: list[dict[str, Any]] = job["steps"]

    def of(self, action: str) -> list[dict[str, Any]]:
        return [step for step in self.steps if step.get("uses", "").startswith(f"{action}@")]

    def sourced(self, variable: str) -> str:
        """Where a variable of the step that signs comes from."""
        [step] = [step for step in self.steps if "cosign sign " in step.get("run", "")]
        return str(step["env"][variable])

    def test_nothing_is_published_before_all_tests_have_passed(self) -> None:
        jobs = read(self.path)["jobs"]
        assert jobs["test"]["uses"] == "./.github/workflows/test.yml"
        assert jobs["publish"]["needs"] == "test"
        assert jobs["release"]["needs"] == "publish"

    def test_its_tag_is_the_projects_version(self) -> None:
        [step] = [step for step in self.steps if step.get("id") == "name"]
        assert '["project"]["version"]' in step["run"]
        assert 'test "v$version" = "$GITHUB_REF_NAME"' in step["run"]

    def test_each_thing_that_it_pushes_is_signed_and_attested_by_its_digest(self) -> None:
        pushes = {
            step["id"]
            for step in self.steps
            if step.get("with", {}).get("push") or re.search(r"\bhelm\"? push\b", step.get("run", ""))
        }
        assert pushes == {"image", "chart"}
        signed = re.findall(r'cosign sign --yes "[^"@]+@\$(\w+)"', str([step.get("run") for step in self.steps]))
        assert {self.sourced(name) for name in signed} == {f"${{{{ steps.{push}.outputs.digest }}}}" for push in pushes}
        attested = [step["with"] for step in self.of("actions/attest") if "sbom-path" not in step["with"]]
        by_digest = {given["subject-digest"] for given in attested if "subject-digest" in given}
        assert by_digest == {self.sourced(name) for name in signed}

    def test_the_image_has_an_sbom_and_says_how_it_was_built(self) -> None:
        [build] = self.of("docker/build-push-action")
        assert build["with"]["sbom"] is True
        assert build["with"]["provenance"] == "mode=max"
        [sbom] = [step["with"] for step in self.of("actions/attest") if "sbom-path" in step["with"]]
        assert sbom["subject-digest"] == "${{ steps.image.outputs.digest }}"
        assert sbom["push-to-registry"] is True
        # The file that is attested is the one that BuildKit's SBOM was written to.
        name = sbom["sbom-path"].replace("${{ env.VERSION }}", "$VERSION")
        assert any(f'.SBOM.SPDX }}}}\' > "{name}"' in step.get("run", "") for step in self.steps)

    def test_its_files_are_attested_and_signed_by_their_checksums(self) -> None:
        assert {"subject-checksums": "dist/SHA256SUMS"} in [step["with"] for step in self.of("actions/attest")]
        assert any(
            "cosign sign-blob --yes --bundle dist/SHA256SUMS.sigstore.json dist/SHA256SUMS" in step.get("run", "")
            for step in self.steps
        )

    def test_the_pages_commands_verify_what_it_signs(self) -> None:
        page = (ROOT / "docs" / "kubernetes.md").read_text()
        assert f"OWNER/pressroom/{self.path.relative_to(ROOT)}@refs/tags/v" in page
        for name in ("SHA256SUMS.sigstore.json", "ghcr.io/OWNER/pressroom/charts/pressroom"):
            assert name in page
