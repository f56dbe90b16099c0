"""The files around the package say what is so: workflows call targets that there are, versions agree, forms can be read."""

import email
import email.policy
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from ruamel.yaml import YAML
from typer.testing import CliRunner

from initbench.cli.app import app

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
ASKING = {"input", "textarea", "dropdown", "checkboxes"}
"""The parts of an issue form that ask for something."""


def read(path):
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def make_targets(text):
    """The targets of the `make` commands in a text: at the beginning of a line or of code."""
    return set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))


def commands_of(job):
    """What the steps of a job run, for each value of its matrix."""
    runs = [step["run"] for step in job["steps"] if "run" in step]
    matrix = job.get("strategy", {}).get("matrix", {})
    for key, values in matrix.items():
        runs = list(dict.fromkeys(run.replace(f"${{{{ matrix.{key} }}}}", value) for run in runs for value in values))
    return runs


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_targets_that_there_are(path):
    jobs = read(path)["jobs"]
    runs = [run for job in jobs.values() for run in commands_of(job)]
    assert runs
    assert "matrix." not in "".join(runs)
    assert make_targets("\n".join(runs)) <= TARGETS
    for job in jobs.values():
        assert set(job) <= {"runs-on", "steps", "strategy", "name", "env", "timeout-minutes"}
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_every_group_of_tests_runs_in_the_workflow_and_on_a_clean_checkout():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    groups = set(re.search(r"^test-all: ([a-z -]+?) *##", makefile, re.MULTILINE)[1].split())
    assert groups == {target for target in TARGETS if re.match(r"test(-|$)", target)} - {"test-all"}
    jobs = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    assert groups | {"check", "smoke"} == make_targets("\n".join(run for job in jobs.values() for run in commands_of(job)))
    assert {"test-all", "check", "smoke"} == make_targets((ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    installed = [run for run in commands_of(jobs["groups"]) if "chromium" in run]
    assert len(installed) == 1, "test-browser is skipped without it"


def test_tests_run_on_the_oldest_and_newest_python_on_linux_and_macos():
    matrix = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["test"]["strategy"]["matrix"]
    oldest = re.fullmatch(r">=(3\.\d+)", PROJECT["requires-python"])[1]
    assert matrix["python"][0] == oldest
    assert [int(python.partition(".")[2]) for python in matrix["python"]] == sorted(
        int(python.partition(".")[2]) for python in matrix["python"]
    )
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos"}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".github/PULL_REQUEST_TEMPLATE.md", "docs/architecture.md", ".ci/run"])
def test_a_page_names_make_targets_that_there_are(page):
    assert make_targets((ROOT / page).read_text(encoding="utf-8")) <= TARGETS


def test_pre_commit_runs_what_make_check_runs():
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    (hook,) = repository["hooks"]
    assert repository["repo"] == "local"
    assert hook["entry"] == "make check"
    assert hook["always_run"]
    assert not hook["pass_filenames"]


@pytest.mark.parametrize("path", [path for path in TEMPLATES if path.name != "config.yml"], ids=lambda path: path.name)
def test_an_issue_form_can_be_read(path):
    form = read(path)
    assert {"name", "description", "body"} <= set(form) <= {"name", "description", "body", "labels", "title"}
    names = [part["id"] for part in form["body"] if part["type"] in ASKING]
    assert names
    assert len(set(names)) == len(names)
    assert all(part["attributes"]["label"] for part in form["body"] if part["type"] in ASKING)


def test_the_citation_has_what_the_format_demands():
    citation = read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"]
    assert "version" not in citation, "it would be a second place for it"


def test_the_changelog_keeps_its_form():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    """What a package index knows of the wheel that is built of this tree."""
    for module in ("hatchling", "hatch_fancy_pypi_readme"):
        pytest.importorskip(module, reason=f"{module} is not installed: make test-exports installs it")
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    built = subprocess.run(words, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.iterdir()
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(files.read(name), policy=email.policy.default)


@pytest.mark.exports
def test_the_page_of_a_package_index_has_no_link_into_the_repository(metadata):
    page, readme = metadata.get_payload(), (ROOT / "README.md").read_text(encoding="utf-8")
    assert metadata["Description-Content-Type"] == "text/markdown"
    html = MarkdownIt("commonmark").render(page)
    targets = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    pictures = re.findall(r"!\[([^\]]*)\]", readme)
    assert len(pictures) >= 3
    assert all(f"*Picture in the repository: {text}*" in page for text in pictures)
    assert page.count("```") == readme.count("```")
    assert "![" not in page


@pytest.mark.exports
def test_every_export_has_its_extra(metadata):
    from initbench.question import catalog

    others = {"ray"}  # of an engine
    assert set(metadata.get_all("Provides-Extra")) - others == {entry.name for entry in catalog.entries("export")}


@pytest.mark.parametrize("path", sorted((ROOT / "docs/cluster").iterdir()), ids=lambda path: path.name)
def test_the_files_for_clusters_can_be_read(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".sh":
        assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
        commands = [line.partition("initbench ")[2] for line in text.splitlines() if line.startswith("initbench ")]
    else:
        document = YAML(typ="safe", pure=True).load(text)
        assert {"cluster_name", "provider"} <= document.keys() or {"apiVersion", "kind", "spec"} <= document.keys()
        commands = [document["spec"]["entrypoint"].removeprefix("initbench ")] if "spec" in document else []
        commands += re.findall(r"initbench (sweep .*--ray-address \S+)", text.splitlines()[0])
    assert commands
    for command in commands:
        words = shlex.split(command.replace('"$head:6379"', "auto"))
        ran = CliRunner().invoke(app, [*words, "--dry-run", "--json"])
        assert ran.exit_code == 0, ran.output
