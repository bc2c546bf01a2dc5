"""What people copy into their CI is what it says: the template for GitLab, our actions, workflows in documents."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.settings import ENVIRONMENT

from .commands import check_line
from .places import DOCS, TOP, documents

ACTIONS = TOP / ".github/actions"
# Source: GitLab, "CI/CD YAML syntax reference", 2026: keywords of a job, and those that may keep one from running.
_KEYWORDS = {"artifacts", "extends", "id_tokens", "image", "stage", "tags", "variables", "when"}
_SCRIPTS = ("before_script", "script", "after_script")
_HINDRANCES = {"rules", "only", "except", "needs", "dependencies", "resource_group", "interruptible"}
_GIVEN = {"RUNNER_SERVER", "RUNNER_SOURCE"}  # variables of the project, as the template's first lines say
_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)")
_YAML = re.compile(r"^```yaml\n(.*?)^```", re.S | re.M)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    """Its jobs, with what they extend."""
    read = yaml.safe_load((DOCS / "examples/gitlab-ci.yml").read_text())
    stages = read.pop("stages")
    jobs = {name: read[job["extends"]] | job if "extends" in job else job for name, job in read.items()}
    return {"stages": stages, "jobs": {name: job for name, job in jobs.items() if not name.startswith(".")}}


def test_the_template_has_jobs_of_gitlabs_keywords_in_its_stages(template: dict[str, Any]) -> None:
    unknown = {key for job in template["jobs"].values() for key in job} - _KEYWORDS - set(_SCRIPTS)
    assert unknown == set()
    assert [job["stage"] for job in template["jobs"].values()] == template["stages"]


def test_its_last_job_runs_always(template: dict[str, Any]) -> None:
    always = [name for name, job in template["jobs"].items() if job.get("when") == "always"]
    assert always == ["stop"]
    stop = template["jobs"]["stop"]
    assert stop["stage"] == template["stages"][-1]
    assert not _HINDRANCES & set(stop)
    assert stop["script"] == ["runner cancel --of-run"]
    assert [_VARIABLE.findall(line) for line in stop["script"]] == [[]]  # such as a cancelled launch has not left


def _lines(job: dict[str, Any]) -> Iterator[str]:
    """Commands of its scripts, its own variables filled in."""
    for script in _SCRIPTS:
        for line in job.get(script, ()):
            for name, value in job.get("variables", {}).items():
                line = line.replace(f"${name}", value)
            yield from re.split(r"&&|\||;|\b(?:then|do)\b", line)


def _ours(job: dict[str, Any]) -> list[list[str]]:
    lines = (line.strip().removeprefix("exec ") for line in _lines(job))
    return [shlex.split(line) for line in lines if line.startswith("runner ")]


def test_what_it_calls_exists_and_what_it_reads_is_set(template: dict[str, Any]) -> None:
    calls = [words for job in template["jobs"].values() for words in _ours(job)]
    assert [words[1] for words in calls] == ["launch", "launch", "cancel"]
    assert [why for words in calls if (why := check_line(words))] == []
    read = {name for job in template["jobs"].values() for line in _lines(job) for name in _VARIABLE.findall(line)}
    assert {name for name in read if not name.startswith("CI_")} <= _GIVEN
    assert set(template["jobs"]["stop"]["id_tokens"]) <= set(ENVIRONMENT)


def test_a_launch_that_is_cut_off_is_taken_back_by_the_same_words(template: dict[str, Any]) -> None:
    launch, back = _ours(template["jobs"]["launch"])
    assert back == [*launch, "--cancel"]
    assert template["jobs"]["launch"]["script"][-1].startswith("exec ")


def _actions() -> dict[str, dict[str, Any]]:
    return {path.parent.name: yaml.safe_load(path.read_text()) for path in sorted(ACTIONS.glob("*/action.yml"))}


def test_what_actions_call_exists() -> None:
    """The first words, as they are written; what is made of inputs is another test's."""
    called = re.compile(r"(?:run\(|asked = )\[((?:'[\w-]+'(?:, )?)+)")
    found = {
        name: called.findall("".join(path.read_text() for path in (ACTIONS / name).glob("*.js"))) for name in _actions()
    }
    words = {name: [re.findall(r"'([\w-]+)'", one) for one in each] for name, each in found.items()}
    assert words == {"launch": [["launch"]], "report": [["report"]], "stop": [["cancel", "--of-run"], ["cancel"]]}
    assert [why for each in words.values() for one in each if (why := check_line(["runner", *one]))] == []


def _workflows() -> Iterator[tuple[Path, dict[str, Any]]]:
    for document in documents():
        for text in _YAML.findall(document.read_text()):
            read = yaml.safe_load(text)
            if isinstance(read, dict) and "/.github/actions/" in text:
                yield document, read


def test_workflows_in_documents_use_actions_as_they_are() -> None:
    actions, used, wrong = _actions(), set[str](), []
    for document, workflow in _workflows():
        for step in (step for job in workflow["jobs"].values() for step in job["steps"]):
            if "/.github/actions/" not in step.get("uses", ""):
                continue
            name = step["uses"].partition("/.github/actions/")[2].partition("@")[0]
            used.add(name)
            given, inputs = set(step.get("with", {})), actions.get(name, {}).get("inputs", {})
            required = {key for key, one in inputs.items() if one.get("required")}
            if name not in actions or not required <= given <= set(inputs):
                wrong.append(f"{document.name}: {name} {given}")
    assert wrong == []
    assert used >= {"launch", "stop"}


def test_who_launches_by_an_action_also_stops_always() -> None:
    """With a controller; without one, machines look after themselves."""
    served = [(document, one["jobs"].values()) for document, one in _workflows() if "RUNNER_SERVER" in str(one)]
    assert served != []
    for document, jobs in served:
        stops = [job for job in jobs if any("/actions/stop@" in step.get("uses", "") for step in job["steps"])]
        assert [job["if"] for job in stops] == ["always()"], document
