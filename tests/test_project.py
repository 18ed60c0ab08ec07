"""What the project says of itself beside its code, for people and for machines: in one voice, and of what is there."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
PAPER = "Exploring Denoising Autoencoder Architectures for Self-Supervised Learning"
CODE_OF_THE_PAPER = "https://github.com/artenyx/SSLProject"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def named(path: Path) -> str:
    return path.name


# ---------------------------------------------------------------------------------- licence, citation, changes


def test_licence_is_mit_wherever_it_is_named() -> None:
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) 2026 the dae_ssl authors\n")
    assert (PROJECT["license"], PROJECT["license-files"]) == ("MIT", ["LICENSE"])
    assert read(ROOT / "CITATION.cff")["license"] == "MIT"


def test_citation_names_this_version_and_the_paper() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"]
    assert citation.keys() >= {"authors", "message", "title"}, "the schema asks for these"
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
    (paper,) = citation["references"]
    assert paper.keys() >= {"authors", "title", "type"}, "the schema asks for these"
    assert (paper["title"], paper["repository-code"]) == (PAPER, CODE_OF_THE_PAPER)
    assert PROJECT["urls"]["Code of the paper"] == CODE_OF_THE_PAPER


def test_version_is_the_newest_of_the_changes_and_written_in_no_module() -> None:
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(version for version in versions if version != "Unreleased") == PROJECT["version"]
    written = re.compile(rf"(?i)version.*[\"']{re.escape(PROJECT['version'])}[\"']")
    for package in ("dae_ssl", "jobs", "hydra_plugins", "slurm", "container"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix in (".py", ".sh", ".yaml", ".sbatch", ""):
                assert not written.search(path.read_text(errors="replace")), path


def test_images_take_the_licence_that_the_package_is_built_with() -> None:
    assert re.search(r"^COPY .*\bLICENSE\b", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert "!LICENSE\n" in (ROOT / ".dockerignore").read_text()
    assert re.search(r"^ +LICENSE /opt/dae_ssl/$", (ROOT / "apptainer.def").read_text(), re.MULTILINE)


# ---------------------------------------------------------------------------------- what GitHub reads


@pytest.mark.parametrize("path", WORKFLOWS, ids=named)
def test_every_job_of_a_workflow_runs_what_every_machine_runs_in_an_hour_at_most(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow.keys() >= {"name", True, "jobs"}, "YAML reads the key `on` as true"
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 60, name
        assert "bash .ci/run" in "\n".join(step.get("run", "") for step in job["steps"]), name
        for step in job["steps"]:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", step.get("uses", "a/b@" + 40 * "0")), step


def test_there_is_a_workflow_and_what_it_calls_can_be_run() -> None:
    assert WORKFLOWS
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_workflow_tries_the_oldest_python_that_is_supported() -> None:
    (workflow,) = map(read, WORKFLOWS)
    tried = [job["strategy"]["matrix"]["python"] for job in workflow["jobs"].values() if "strategy" in job]
    assert PROJECT["requires-python"].removeprefix(">=") in tried[0]


@pytest.mark.parametrize("path", FORMS, ids=named)
def test_issue_form_has_what_github_asks_for(path: Path) -> None:
    form = read(path)
    assert form.keys() <= {"name", "description", "title", "labels", "assignees", "projects", "type", "body"}
    assert form["name"]
    assert form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids) > 0
    for field in form["body"]:
        assert field["type"] in ("textarea", "input", "dropdown", "checkboxes")
        assert field["attributes"]["label"]
        assert field["type"] != "dropdown" or all(isinstance(option, str) for option in field["attributes"]["options"])


def test_there_are_forms_for_bugs_and_for_questions_and_a_text_for_pull_requests() -> None:
    assert {path.stem for path in FORMS} == {"bug", "question"}
    assert "CONTRIBUTING.md" in (ROOT / ".github" / "pull_request_template.md").read_text()


# ---------------------------------------------------------------------------------- how to contribute


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/contributing.md", "docs/design.md"])
def test_every_file_that_a_page_for_developers_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    folders = "dae_ssl|jobs|tests|docs|results|benchmarks|slurm|container|hydra_plugins|examples"
    files = re.findall(rf"`((?:{folders})/[\w./-]*)`", text)
    for name in files:
        assert (ROOT / name).exists(), f"{page} names {name}"
