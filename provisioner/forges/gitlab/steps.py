"""What GitLab tells a job in its environment, and what it vouches for in a job's identity token. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from provisioner.domain.ci import CiClaims
from provisioner.domain.forge import ForgeKind, Site, Target
from provisioner.domain.kinds import IdTokenAddress
from provisioner.domain.launching import CiRun
from provisioner.domain.step import Step

KIND = ForgeKind("gitlab")
BASE = "https://gitlab.com"
DOTENV = "runner.env"  # where a job leaves variables for those after it, unless --dotenv says otherwise


def event_variable(environment: Mapping[str, str]) -> str:
    return ""


def step(environment: Mapping[str, str], event: Mapping[str, Any]) -> Step | None:
    if environment.get("GITLAB_CI") != "true":
        return None
    server = environment.get("CI_SERVER_URL", BASE).rstrip("/")
    path, number = environment.get("CI_PROJECT_PATH", ""), environment.get("CI_MERGE_REQUEST_IID", "")
    if number:
        path = environment.get("CI_MERGE_REQUEST_PROJECT_PATH") or path
    else:
        path, number = _open_request(environment, path)
    # With merged results CI_COMMIT_SHA is the trial merge; only then is the other one set.
    sha = environment.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or environment.get("CI_COMMIT_SHA", "")
    return Step(
        kind=KIND,
        site=Site(KIND, server, path),
        target=Target("pr", number) if number else Target("commit", sha),
        sha=sha,
        run_id=environment.get("CI_PIPELINE_ID", ""),
        run_url=environment.get("CI_JOB_URL") or environment.get("CI_PIPELINE_URL", ""),
        api=environment.get("CI_API_V4_URL", ""),
        target_branch=environment.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", ""),
        base_sha=environment.get("CI_MERGE_REQUEST_DIFF_BASE_SHA", ""),
    )


def run(environment: Mapping[str, str], step: Step) -> CiRun:
    project = environment.get("CI_PROJECT_PATH", "")  # where the job runs, whatever is merged into what
    pipeline, job = environment.get("CI_PIPELINE_ID", ""), environment.get("CI_JOB_NAME", "")
    site = Site(KIND, step.site.base, project)
    return CiRun(site, (pipeline, job), f"run-{pipeline}", step.api, dotenv=DOTENV)


def own_token(environment: Mapping[str, str]) -> str:
    return ""


def id_token(environment: Mapping[str, str], audience: str) -> IdTokenAddress | None:
    """Its jobs are given theirs, in variables that their `id_tokens` name."""
    return None


def issuer(base: str) -> str:
    return base


def claims(told: Mapping[str, str]) -> CiClaims:
    """`project_path` is where the code comes from, which for a fork's merge request is the fork; `job_project_path`,
    where GitLab tells it, where the job runs. Source: docs.gitlab.com, "ID token authentication", 2026."""
    source, where = told.get("project_path", ""), told.get("job_project_path", "")
    merging = told.get("pipeline_source") == "merge_request_event" or "merge-requests/" in told.get("ref_path", "")
    fork = source != where if where else (None if merging else False)
    prefix = {"branch": "refs/heads/", "tag": "refs/tags/"}.get(told.get("ref_type", ""), "")
    ref = told.get("ref_path") or f"{prefix}{told.get('ref', '')}"
    return CiClaims(where or source, ref, told.get("pipeline_id", ""), "1", fork, told.get("job_id", ""), told)


def _open_request(environment: Mapping[str, str], path: str) -> tuple[str, str]:
    """A branch's pipeline may belong to one open merge request (group/project!12); to several, it belongs to none."""
    opened = environment.get("CI_OPEN_MERGE_REQUESTS", "")
    match = re.fullmatch(r"([^!,]+)!(\d+)", opened.strip())
    return (match[1], match[2]) if match else (path, "")
