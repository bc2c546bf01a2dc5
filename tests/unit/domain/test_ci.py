"""What a policy grants to a CI run, by what its forge vouches for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from provisioner.domain.budget import Budget, Period
from provisioner.domain.ci import (
    CiClaims,
    CiPolicy,
    Session,
    admit,
    check_fork,
    granted,
    read_claims,
    session_of,
    speaks_of,
)
from provisioner.domain.errors import Forbidden
from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.gpu import parse_gpu
from provisioner.domain.job import CiOrigin, JobSpec, Need, RunnerSpec
from provisioner.forges.github import steps as github
from provisioner.forges.gitlab import steps as gitlab

NOW = datetime(2026, 3, 4, tzinfo=UTC)
HUB = Site(ForgeKind("github"), "https://github.com", "")
VISION = Site(ForgeKind("github"), "https://github.com", "acme/vision")
ISSUER, US = "https://issuer.example", "https://runner.example"
POLICY = CiPolicy(HUB, ISSUER, US, ("acme/*",), 4, Decimal(5), 7200.0)
TOLD = {"repository": "acme/vision", "ref": "refs/heads/main", "run_id": "7", "run_attempt": "2", "event_name": "push"}


def claims(**more: Any) -> CiClaims:
    return read_claims(github, TOLD | more)


def session(fork: bool = False, policy: CiPolicy = POLICY, **more: Any) -> Session:
    return session_of(policy, claims(**more), fork, NOW)


def spec(**more: Any) -> JobSpec:
    runner = RunnerSpec(VISION.url, "github", ("run-7",))
    return JobSpec(**({"run": (), "kind": "ci-runner", "runner": runner} | more))


@pytest.mark.parametrize(
    ("patterns", "repository", "comes"),
    [
        (("acme/*",), "acme/vision", True),
        (("acme/*",), "Acme/Vision", True),
        (("acme/vision",), "acme/vision-2", False),
        (("acme/*",), "acme-evil/vision", False),
        (("acme/*",), "acme/group/vision", False),
        (("acme/*/*",), "acme/group/vision", True),
        (("other/*", "acme/v*"), "acme/vision", True),
    ],
)
def test_repositories_are_patterns_part_by_part(patterns: tuple[str, ...], repository: str, comes: bool) -> None:
    policy = replace(POLICY, repositories=patterns)
    if comes:
        assert admit([policy], ISSUER, [US], claims(repository=repository)) == policy
    else:
        with pytest.raises(Forbidden, match="no policy of this controller is for"):
            admit([policy], ISSUER, [US], claims(repository=repository))


def test_a_policy_is_for_its_own_issuer_and_audience() -> None:
    for issuer, audience in (("https://other.example", US), (ISSUER, "https://other.example")):
        with pytest.raises(Forbidden):
            admit([POLICY], issuer, [audience], claims())


def test_the_first_policy_that_speaks_of_the_ref_and_the_claims_counts() -> None:
    main = replace(POLICY, refs=("refs/heads/main",), key="main")
    tags = replace(POLICY, refs=("refs/tags/v*",), claims={"environment": "prod*"}, key="tags")
    assert admit([main, tags], ISSUER, [US], claims()).key == "main"
    assert admit([main, tags], ISSUER, [US], claims(ref="refs/tags/v1", environment="production")).key == "tags"
    for more in ({"ref": "refs/heads/main2"}, {"ref": "refs/tags/v1"}):
        with pytest.raises(Forbidden, match="acme/vision may come, but not from refs/"):
            admit([main, tags], ISSUER, [US], claims(**more))


@pytest.mark.parametrize(
    ("event", "fork"),
    [
        ("push", False),
        ("workflow_dispatch", False),
        ("schedule", False),
        ("pull_request", None),
        ("pull_request_target", None),
        ("pull_request_review", None),
        ("workflow_run", None),
        ("issue_comment", None),
        ("merge_group", None),
        ("an_event_of_next_year", None),
        ("", None),
    ],
)
def test_a_run_is_the_repositorys_own_only_if_its_event_is_known_to_be(event: str, fork: bool | None) -> None:
    assert claims(event_name=event).fork is fork


@pytest.mark.parametrize(
    ("more", "repository", "fork"),
    [
        ({}, "acme/vision", False),
        ({"pipeline_source": "merge_request_event"}, "acme/vision", None),
        ({"ref_path": "refs/merge-requests/1/head"}, "acme/vision", None),
        ({"job_project_path": "acme/vision"}, "acme/vision", False),
        ({"project_path": "eve/vision", "job_project_path": "acme/vision"}, "acme/vision", True),
        ({"project_path": "eve/vision"}, "eve/vision", False),
    ],
)
def test_gitlab_tells_where_the_code_is_from_and_where_it_runs(
    more: dict[str, str], repository: str, fork: bool | None
) -> None:
    told = {"project_path": "acme/vision", "ref": "main", "ref_type": "branch", "pipeline_id": "9", "job_id": "90"}
    found = read_claims(gitlab, told | more)
    assert (found.repository, found.fork, found.job_id) == (repository, fork, "90")
    assert found.ref == more.get("ref_path", "refs/heads/main")


@pytest.mark.parametrize(
    ("allowed", "fork", "comes"),
    [
        ("refused", False, False),
        ("refused", None, False),
        ("refused", True, False),
        ("own", False, True),
        ("own", None, False),
        ("own", True, False),
        ("forks", False, True),
        ("forks", None, True),
        ("forks", True, True),
    ],
)
def test_forks_come_only_where_the_policy_says_so(allowed: str, fork: bool | None, comes: bool) -> None:
    policy, pull = replace(POLICY, pull_requests=allowed), claims(event_name="pull_request")
    if comes:
        check_fork(policy, pull, fork)
    else:
        with pytest.raises(Forbidden):
            check_fork(policy, pull, fork)


def test_what_is_no_ci_run_is_refused() -> None:
    for told in ({}, {"repository": "acme/vision"}, {"run_id": "7"}):
        with pytest.raises(Forbidden, match="of no CI run"):
            read_claims(github, told)


def test_runs_of_a_repository_share_machines_and_a_forks_shares_none() -> None:
    owners = [session(run_id=run).owner for run in "12"]
    assert owners[0] == owners[1] != session(repository="acme/speech").owner
    forks = {session(True, run_id=run).owner for run in "12"}
    assert len(forks | set(owners)) == 3
    assert all(owner.startswith("ci.") and len(owner) <= 64 for owner in forks | set(owners))


def test_a_session_is_of_one_run_for_an_hour() -> None:
    one = session()
    assert (one.run, one.ref) == ("https://github.com/acme/vision#7.2", "refs/heads/main")
    assert (one.expires_at - NOW).total_seconds() == 3600


def test_what_was_left_open_is_what_the_policy_allows() -> None:
    budget = Budget(Decimal(50), Period.DAY)
    policy = replace(POLICY, providers=("aws",), max_price=Decimal("1.5"), owner="team", budget=budget)
    made = granted(policy, session(policy=policy), spec(), VISION)
    assert (made.need.providers, made.need.max_price, made.max_lifetime_s) == (("aws",), Decimal("1.5"), 7200.0)
    run = "https://github.com/acme/vision#7.2"
    assert made.origin == CiOrigin(
        VISION.url, "refs/heads/main", run, "team.", 4, Decimal(5), budget, speaks_of(policy)
    )


@pytest.mark.parametrize(
    ("more", "site", "said"),
    [
        ({"kind": "command", "run": "true"}, VISION, "for its own repository and nothing else"),
        ({}, replace(VISION, path="acme/speech"), "for its own repository and nothing else"),
        ({}, replace(VISION, path="acme"), "for its own repository and nothing else"),
        ({}, replace(VISION, base="https://git.example"), "for its own repository and nothing else"),
        ({"secrets": ("HF_TOKEN",)}, VISION, "takes no secrets and no variables"),
        ({"env": {"A": "b"}}, VISION, "takes no secrets and no variables"),
        ({"max_lifetime_s": 7201.0}, VISION, "--max-lifetime is 7201, at most 7200"),
        ({"need": Need(max_price=Decimal(2))}, VISION, "--max-price is 2, at most 1.5"),
        ({"need": Need(providers=("local",))}, VISION, "no such provider"),
        ({"need": Need(providers=("aws", "local"))}, VISION, "no such provider"),
        ({"need": Need(gpu=parse_gpu("A100"))}, VISION, "no such GPU"),
        ({"need": Need(gpu=parse_gpu(">=24GB"))}, VISION, "no such GPU"),
        ({"need": Need()}, VISION, "no such GPU"),
    ],
)
def test_what_the_policy_does_not_grant(more: dict[str, Any], site: Site, said: str) -> None:
    policy = replace(POLICY, providers=("aws",), max_price=Decimal("1.5"), gpus=("T4", "L4"))
    with pytest.raises(Forbidden, match=said):
        granted(policy, session(policy=policy), spec(**({"need": Need(gpu=parse_gpu("t4"))} | more)), site)
