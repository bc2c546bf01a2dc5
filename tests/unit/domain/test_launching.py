"""Names of a launch follow from the CI run it belongs to, and from nothing that changes when its step is repeated."""

from __future__ import annotations

import pytest

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.launching import Names, is_of, names_of
from provisioner.forges.registry import known
from tests.unit.cli.step import ACTIONS_OF_GITEA, GITHUB, GITLAB


def github(**changed: str) -> Names:
    return names_of(known().run(GITHUB | changed), "", "ab" * 8)


def test_a_step_repeated_has_the_same_names() -> None:
    assert github() == github(GITHUB_ACTION="__run_2", GITHUB_SHA="0" * 40, RUNNER_NAME="another")
    assert github().label.startswith("run-1658821493-2-")


@pytest.mark.parametrize(
    "changed",
    [
        {"GITHUB_RUN_ATTEMPT": "3"},
        {"GITHUB_RUN_ID": "1658821494"},
        {"GITHUB_JOB": "other"},
        {"GITHUB_REPOSITORY": "acme/other"},
        {"RUNNER_TRACKING_ID": "github_another-leg-of-the-matrix"},
    ],
)
def test_another_run_attempt_job_or_leg_has_other_names(changed: dict[str, str]) -> None:
    assert github(**changed).key != github().key
    assert github(**changed).label != github().label


@pytest.mark.parametrize("mark", ["GITEA_ACTIONS", "FORGEJO_ACTIONS"])
def test_legs_that_nothing_tracks_differ_by_the_token_that_each_job_has_of_its_own(mark: str) -> None:
    legs = [ACTIONS_OF_GITEA | {mark: "true", "ACTIONS_RUNTIME_TOKEN": f"of-job-{leg}"} for leg in ["7", "7", "8"]]
    first, again, other = (names_of(known().run(leg), "", "") for leg in legs)
    assert first == again
    assert (other.key != first.key, other.label != first.label) == (True, True)


@pytest.mark.parametrize("changed", [{"HOSTNAME": "3f1c"}, {"GITHUB_WORKSPACE": "/cache/act/9d/hostexecutor"}])
def test_legs_differ_where_an_old_act_runner_has_mixed_up_their_tokens(changed: dict[str, str]) -> None:
    one, other = (names_of(known().run(ACTIONS_OF_GITEA | more), "", "") for more in ({}, changed))
    assert one.label != other.label


@pytest.mark.parametrize("environment", [GITHUB, ACTIONS_OF_GITEA])
def test_where_nothing_tells_legs_apart_only_their_own_names_can(environment: dict[str, str]) -> None:
    run = known().run(environment | {"RUNNER_TRACKING_ID": "", "ACTIONS_RUNTIME_TOKEN": ""})
    with pytest.raises(InvalidRequest, match="nothing tells this job from other legs of a matrix") as caught:
        names_of(run, "", "")
    assert caught.value.hint == "give --name, and another one in each leg"
    assert names_of(run, "t4", "", named=True) != names_of(run, "a10g", "", named=True)


def test_a_job_of_gitlab_that_is_retried_finds_what_it_launched() -> None:
    names = [names_of(known().run(GITLAB | {"CI_JOB_ID": number}), "", "") for number in ("1", "2")]
    assert names[0] == names[1]
    assert names_of(known().run(GITLAB | {"CI_JOB_NAME": "launch 2/2"}), "", "").label != names[0].label


def test_runners_are_for_where_the_job_runs_whatever_it_merges_into() -> None:
    merging = {"CI_MERGE_REQUEST_IID": "7", "CI_MERGE_REQUEST_PROJECT_PATH": "upstream/vision"}
    run = known().run(GITLAB | merging)
    assert run is not None
    assert run.site == Site(ForgeKind("gitlab"), "https://gitlab.example", "acme/vision")


def test_outside_of_ci_names_are_chance() -> None:
    assert known().run({"CI": "true"}) is None
    assert names_of(None, "", "ab" * 8) == Names("ab" * 8, f"run-{'ab' * 8}")


def test_ids_count_runners_and_turns() -> None:
    assert [Names("k", "l").job(1), Names("k", "l").job(2, 3)] == ["ci-k-1", "ci-k-2-3"]


@pytest.mark.parametrize(
    ("url", "label", "its"),
    [
        ("https://github.com/acme/vision", "run-1658821493-2-0123abcd", True),
        ("https://github.com/acme", "run-1658821493-2-0123abcd", True),
        ("https://github.example/acme/vision", "run-1658821493-2-0123abcd", False),
        ("https://github.com.evil.example/acme/vision", "run-1658821493-2-0123abcd", False),
        ("https://github.com/acme/vision", "run-1658821493-3-0123abcd", False),
        ("https://github.com/acme/vision", "run-1658821493-20123abcd", False),
        ("https://github.com/acme/vision", "run-1658821493-2-0123abcd-4", False),
        ("https://github.com/acme/vision", "", False),
    ],
)
def test_a_run_knows_what_any_of_its_jobs_launched_by_its_label(url: str, label: str, its: bool) -> None:
    run = known().run(GITHUB | {"GITHUB_JOB": "stop", "RUNNER_TRACKING_ID": "github_another"})
    assert run is not None
    assert is_of(run, url, ["gpu", label]) is False
    assert is_of(run, url, [label, "gpu"] if label else []) is its


def test_a_pipelines_runners_are_not_those_of_a_run_that_has_its_number() -> None:
    """GitHub's labels have an attempt in them, too."""
    run = known().run(GITLAB)
    assert run is not None
    labels = (f"run-7001-{'1' * 8}", f"run-7001-1-{'1' * 8}", f"run-70011-{'1' * 8}")
    assert [is_of(run, "https://gitlab.example/acme/vision", [one]) for one in labels] == [True, False, False]
