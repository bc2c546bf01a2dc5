"""Where a CI step stands, on each forge, for each kind of event."""

from __future__ import annotations

from typing import Any

import pytest

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import ForgeKind, Target
from provisioner.forges.registry import known

step_of, token_of = known().step, known().token

HEAD, MERGE, MAIN = "a" * 40, "b" * 40, "c" * 40
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_API_URL": "https://api.github.com",
    "GITHUB_REPOSITORY": "team/model",
    "GITHUB_SHA": MERGE,
    "GITHUB_REF": "refs/pull/42/merge",
    "GITHUB_RUN_ID": "9",
    "GITHUB_BASE_REF": "main",
    "GITHUB_EVENT_PATH": "/event.json",
    "GITHUB_STEP_SUMMARY": "/summary",
    "GITHUB_OUTPUT": "/output",
}
PULL = {"pull_request": {"number": 42, "head": {"sha": HEAD}, "base": {"ref": "main", "sha": MAIN}}}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_SERVER_URL": "https://git.example.org/gitlab",
    "CI_API_V4_URL": "https://git.example.org/gitlab/api/v4",
    "CI_PROJECT_PATH": "fork/model",
    "CI_COMMIT_SHA": HEAD,
    "CI_PIPELINE_ID": "7",
}


def test_outside_of_ci_there_is_no_step() -> None:
    assert step_of({"PATH": "/usr/bin"}) is None
    assert known().event_variable({"GITHUB_EVENT_PATH": "/x"}) == ""
    assert known().event_variable(GITHUB) == "GITHUB_EVENT_PATH"


def test_a_pull_requests_commit_is_its_head_and_not_the_trial_merge() -> None:
    step = step_of(GITHUB, PULL)
    assert step is not None
    assert (step.target, step.sha, step.target_branch) == (Target("pr", "42"), HEAD, "main")
    assert (step.site.url, step.kind) == ("https://github.com/team/model", ForgeKind("github"))
    assert step.run_url == "https://github.com/team/model/actions/runs/9"
    assert (step.summary, step.output, step.api) == ("/summary", "/output", "https://api.github.com")


@pytest.mark.parametrize(
    ("event", "ref", "target", "sha"),
    [
        ({}, "refs/heads/main", Target("commit", MERGE), MERGE),
        ({}, "refs/pull/42/merge", Target("pr", "42"), MERGE),
        (
            {"workflow_run": {"head_sha": HEAD, "pull_requests": [{"number": 5}]}},
            "refs/heads/main",
            Target("pr", "5"),
            HEAD,
        ),
        ({"workflow_run": {"head_sha": HEAD, "pull_requests": []}}, "refs/heads/main", Target("commit", HEAD), HEAD),
        ({"issue": {"number": 6, "pull_request": {"url": "x"}}}, "refs/heads/main", Target("pr", "6"), MERGE),
        ({"issue": {"number": 6}}, "refs/heads/main", Target("commit", MERGE), MERGE),
        ({"pull_request": "odd", "workflow_run": [1]}, "refs/heads/main", Target("commit", MERGE), MERGE),
    ],
)
def test_every_event_has_its_target(event: dict[str, Any], ref: str, target: Target, sha: str) -> None:
    step = step_of({**GITHUB, "GITHUB_REF": ref}, event)
    assert step is not None
    assert (step.target, step.sha) == (target, sha)


@pytest.mark.parametrize("mark", ["GITEA_ACTIONS", "FORGEJO_ACTIONS"])
def test_gitea_and_forgejo_are_told_from_github(mark: str) -> None:
    step = step_of({**GITHUB, mark: "true", "GITHUB_SERVER_URL": "https://codeberg.org"}, PULL)
    assert step is not None
    assert (step.kind, step.site.base, step.target) == (ForgeKind("gitea"), "https://codeberg.org", Target("pr", "42"))


def test_a_merge_request_from_a_fork_is_on_the_target_project() -> None:
    step = step_of(
        {
            **GITLAB,
            "CI_MERGE_REQUEST_IID": "3",
            "CI_MERGE_REQUEST_PROJECT_PATH": "team/model",
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
            "CI_MERGE_REQUEST_DIFF_BASE_SHA": MAIN,
        }
    )
    assert step is not None
    assert (str(step.site), step.target) == ("https://git.example.org/gitlab/team/model", Target("pr", "3"))
    assert (step.sha, step.base_sha, step.target_branch) == (HEAD, MAIN, "main")


def test_a_merged_results_pipeline_tells_of_the_source_branchs_commit() -> None:
    more = {"CI_MERGE_REQUEST_IID": "3", "CI_COMMIT_SHA": MERGE, "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": HEAD}
    step = step_of({**GITLAB, **more})
    assert step is not None
    assert step.sha == HEAD


@pytest.mark.parametrize(
    ("opened", "target"),
    [
        ("team/model!3", Target("pr", "3")),
        ("team/model!3,team/model!4", Target("commit", HEAD)),
        ("", Target("commit", HEAD)),
    ],
)
def test_a_branchs_pipeline_belongs_to_its_only_merge_request(opened: str, target: Target) -> None:
    step = step_of({**GITLAB, "CI_OPEN_MERGE_REQUESTS": opened})
    assert step is not None
    assert step.target == target


def test_the_token_comes_from_the_environment_ours_first() -> None:
    assert token_of(ForgeKind("github"), {"GITHUB_TOKEN": "g", "RUNNER_FORGE_TOKEN": "r"}) == "r"
    assert token_of(ForgeKind("gitea"), {"GITHUB_TOKEN": "g"}) == "g"
    with pytest.raises(InvalidRequest) as wrong:
        token_of(ForgeKind("gitlab"), {"GITHUB_TOKEN": "g", "GITLAB_TOKEN": " "})
    assert wrong.value.line == ("no token for gitlab; set RUNNER_FORGE_TOKEN or GITLAB_TOKEN in the step's environment")
    with pytest.raises(InvalidRequest, match="is not a token"):
        token_of(ForgeKind("github"), {"GITHUB_TOKEN": "a\nb"})
