"""Where a command stands when a forge's CI runs it: read from the step's environment and the event that began the run.

Pure: the event's JSON comes in parsed. GitHub, Gitea and Forgejo name their variables alike; GitLab has its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import InvalidRequest
from .forge import ForgeKind, Site, Target

_PULL = re.compile(r"refs/pull/(\d+)/(?:merge|head)")
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_TOKENS = {
    ForgeKind.GITHUB: ("GITHUB_TOKEN",),
    ForgeKind.GITLAB: ("GITLAB_TOKEN",),
    ForgeKind.GITEA: ("GITEA_TOKEN", "GITHUB_TOKEN"),
}
_WHATS = {"pr": "pr", "mr": "pr", "issue": "issue", "commit": "commit"}


@dataclass(frozen=True, slots=True)
class Step:
    """`sha` is the commit that somebody wrote, never the forge's trial merge. `target_branch` is what a pull request
    goes into, `base_sha` the commit that it began from where the forge says. `summary` and `output` are files that the
    forge reads after the step; "" where it has none. `api` is the address of the forge's API, "" if it did not say."""

    kind: ForgeKind
    site: Site
    target: Target
    sha: str
    run_id: str = ""
    run_url: str = ""
    api: str = ""
    target_branch: str = ""
    base_sha: str = ""
    summary: str = ""
    output: str = ""


def event_path(environment: Mapping[str, str]) -> str:
    """The file with the event's JSON; "" where there is none."""
    return environment.get("GITHUB_EVENT_PATH", "") if environment.get("GITHUB_ACTIONS") == "true" else ""


def step_of(environment: Mapping[str, str], event: Mapping[str, Any] | None = None) -> Step | None:
    """None outside of a CI step that we know."""
    if environment.get("GITLAB_CI") == "true":
        return _gitlab(environment)
    if environment.get("GITHUB_ACTIONS") == "true" and environment.get("GITHUB_REPOSITORY"):
        return _github(environment, event or {})
    return None


def parse_target(text: str) -> Target:
    """`pr/42`, `commit/SHA` or `issue/1`. Raises: InvalidRequest."""
    what, _, ref = text.partition("/")
    known = _WHATS.get(what)
    if known is None or not (_SHA.fullmatch(ref) if known == "commit" else re.fullmatch(r"[1-9]\d{0,17}", ref)):
        raise InvalidRequest(f"not a target: {text[:80]!r}", hint="write pr/42, issue/1 or commit/SHA, the whole of it")
    return Target(known, ref)


def token_of(kind: ForgeKind, environment: Mapping[str, str]) -> str:
    """The credential for a forge, from the environment alone. Raises: InvalidRequest."""
    names = ("RUNNER_FORGE_TOKEN", *_TOKENS[kind])
    token = next((environment[name].strip() for name in names if environment.get(name, "").strip()), "")
    if not token:
        raise InvalidRequest(f"no token for {kind}", hint=f"set {' or '.join(names)} in the step's environment")
    if not all("!" <= letter <= "~" for letter in token):
        raise InvalidRequest(f"what {' or '.join(names)} holds is not a token", hint="it has blanks or odd letters")
    return token


def _github(environment: Mapping[str, str], event: Mapping[str, Any]) -> Step:
    server = environment.get("GITHUB_SERVER_URL", "https://github.com").rstrip("/")
    repository, run = environment["GITHUB_REPOSITORY"], environment.get("GITHUB_RUN_ID", "")
    kind = ForgeKind.GITEA if _is_gitea(environment) else ForgeKind.GITHUB
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


def _is_gitea(environment: Mapping[str, str]) -> bool:
    return any(environment.get(name) == "true" for name in ("GITEA_ACTIONS", "FORGEJO_ACTIONS"))


def _gitlab(environment: Mapping[str, str]) -> Step:
    server = environment.get("CI_SERVER_URL", "https://gitlab.com").rstrip("/")
    path, number = environment.get("CI_PROJECT_PATH", ""), environment.get("CI_MERGE_REQUEST_IID", "")
    if number:
        path = environment.get("CI_MERGE_REQUEST_PROJECT_PATH") or path
    else:
        path, number = _open_request(environment, path)
    # With merged results CI_COMMIT_SHA is the trial merge; only then is the other one set.
    sha = environment.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or environment.get("CI_COMMIT_SHA", "")
    return Step(
        kind=ForgeKind.GITLAB,
        site=Site(ForgeKind.GITLAB, server, path),
        target=Target("pr", number) if number else Target("commit", sha),
        sha=sha,
        run_id=environment.get("CI_PIPELINE_ID", ""),
        run_url=environment.get("CI_JOB_URL") or environment.get("CI_PIPELINE_URL", ""),
        api=environment.get("CI_API_V4_URL", ""),
        target_branch=environment.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", ""),
        base_sha=environment.get("CI_MERGE_REQUEST_DIFF_BASE_SHA", ""),
    )


def _open_request(environment: Mapping[str, str], path: str) -> tuple[str, str]:
    """A branch's pipeline may belong to one open merge request (group/project!12); to several, it belongs to none."""
    opened = environment.get("CI_OPEN_MERGE_REQUESTS", "")
    match = re.fullmatch(r"([^!,]+)!(\d+)", opened.strip())
    return (match[1], match[2]) if match else (path, "")


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
