"""What Actions tell the commands of their jobs, in the variables that GitHub made and its imitators have kept. Pure.

And what they tell their runners' hooks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from provisioner.domain.forge import ForgeKind, Site, Target
from provisioner.domain.kinds import IdTokenAddress
from provisioner.domain.launching import CiRun
from provisioner.domain.step import Step

_PULL = re.compile(r"refs/pull/(\d+)/(?:merge|head)")
_NO_ID_TOKEN = "give the job `permissions: id-token: write` (a fork's pull request cannot have it), or set RUNNER_TOKEN"

# Source: docs.github.com "Running scripts before or after a job" and "Variables reference", 2026.
HOOKS = {"ACTIONS_RUNNER_HOOK_JOB_STARTED": "{started}", "ACTIONS_RUNNER_HOOK_JOB_COMPLETED": "{completed}"}
VARIABLES = {
    "repository": ("GITHUB_REPOSITORY",),
    "run": ("GITHUB_RUN_ID",),
    "job": ("GITHUB_JOB",),
    "actor": ("GITHUB_ACTOR",),
}


def here(environment: Mapping[str, str]) -> bool:
    return environment.get("GITHUB_ACTIONS") == "true"


def event_variable(environment: Mapping[str, str]) -> str:
    return "GITHUB_EVENT_PATH" if here(environment) else ""


def step(kind: ForgeKind, environment: Mapping[str, str], event: Mapping[str, Any]) -> Step | None:
    if not (here(environment) and environment.get("GITHUB_REPOSITORY")):
        return None
    server = environment.get("GITHUB_SERVER_URL", "https://github.com").rstrip("/")
    repository, run = environment["GITHUB_REPOSITORY"], environment.get("GITHUB_RUN_ID", "")
    number, sha, base = _pull(event)
    if not number and (match := _PULL.fullmatch(environment.get("GITHUB_REF", ""))):
        number = match[1]
    sha = sha or environment.get("GITHUB_SHA", "")
    return Step(
        kind=kind,
        site=Site(kind, server, repository),
        target=Target("pr", number) if number else Target("commit", sha),
        sha=sha,
        run_id=run,
        run_url=f"{server}/{repository}/actions/runs/{run}" if run else "",
        api=environment.get("GITHUB_API_URL", ""),
        target_branch=environment.get("GITHUB_BASE_REF", "") or _text(base.get("ref")),
        summary=environment.get("GITHUB_STEP_SUMMARY", ""),
        output=environment.get("GITHUB_OUTPUT", ""),
    )


def run(environment: Mapping[str, str], step: Step) -> CiRun:
    attempt, leg = environment.get("GITHUB_RUN_ATTEMPT", "1"), _leg(environment)
    words = (step.run_id, attempt, environment.get("GITHUB_JOB", ""), leg)
    label = f"run-{step.run_id}-{attempt}"
    return CiRun(step.site, words, label, step.api, step.output, step.summary, legs_differ=bool(leg))


def _leg(environment: Mapping[str, str]) -> str:
    """What tells a leg of a matrix from the others; "" where nothing does for sure.

    Source: actions/runner, 2026: what it tracks a job's processes by is new for each job. act_runner and forgejo-runner
    (`run.go`, 0.2 and 12) leave that empty, and give each step the token that their forge made for this one job. An
    act_runner that runs several jobs at once could give one the other's; container and folder are each job's own."""
    if tracked := environment.get("RUNNER_TRACKING_ID", ""):
        return tracked
    token = environment.get("ACTIONS_RUNTIME_TOKEN", "")
    where = (environment.get(name, "") for name in ("HOSTNAME", "GITHUB_WORKSPACE"))
    return hashlib.sha256("\n".join((token, *where)).encode()).hexdigest() if token else ""


def id_token(environment: Mapping[str, str], audience: str) -> IdTokenAddress | None:
    """Given for whatever audience is asked for."""
    if not here(environment):
        return None
    url, bearer = (environment.get(f"ACTIONS_ID_TOKEN_REQUEST_{name}", "") for name in ("URL", "TOKEN"))
    return IdTokenAddress(f"{url}&audience={quote(audience, safe='')}" if url else "", bearer, _NO_ID_TOKEN)


def _pull(event: Mapping[str, Any]) -> tuple[str, str, Mapping[str, Any]]:
    """(number, head's sha, base) of the pull request that an event is about; empty where it is about none."""
    pull = _object(event.get("pull_request"))
    if pull:
        return str(pull.get("number", "")), _text(_object(pull.get("head")).get("sha")), _object(pull.get("base"))
    run = _object(event.get("workflow_run"))
    if run:
        pulls = run.get("pull_requests") or []
        only = _object(pulls[0]) if len(pulls) == 1 else {}
        return str(only.get("number", "")), _text(run.get("head_sha")), _object(only.get("base"))
    issue = _object(event.get("issue"))
    if issue.get("pull_request"):
        return str(issue.get("number", "")), "", {}
    return "", "", {}


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
