"""GitHub's answers in our words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from provisioner.domain.forge import CiJob, CiJobState, Runner, Site

# What waits for something else than a runner (an approval, another run) is not listed as waiting by `queued`, and has
# not begun either.
_STATES = {"completed": CiJobState.DONE, "in_progress": CiJobState.RUNNING}
# Source: GitHub, "Choosing the runner for a job", 2026: the labels of its own machines all begin so.
_HOSTED = re.compile(r"(ubuntu|windows|macos)-", re.I)


def ours(labels: Sequence[str]) -> bool:
    """Whether a job with these labels waits for a runner of its owner's own.

    One without labels names a group of runners, which may be GitHub's: no labels of ours could answer it."""
    names = [label.lower() for label in labels]
    return bool(names) and ("self-hosted" in names or not any(_HOSTED.match(name) for name in names))


def runner(told: Mapping[str, Any]) -> Runner:
    labels = tuple(label["name"] for label in told["labels"])
    return Runner(str(told["id"]), told["name"], told["status"] == "online", bool(told["busy"]), labels)


def from_fork(run: Mapping[str, Any]) -> bool:
    """A fork that was deleted has no name any more, and is not trusted for that."""
    head = run.get("head_repository") or {}
    return bool(head.get("full_name") != run["repository"]["full_name"])


def job(told: Mapping[str, Any], site: Site, repository: str, fork: bool | None) -> CiJob:
    return CiJob(
        id=str(told["id"]),
        site=site,
        repository=repository,
        state=_STATES.get(told["status"], CiJobState.QUEUED),
        labels=tuple(told["labels"]),
        created_at=moment(told.get("created_at") or told["started_at"]),
        run_id=str(told["run_id"]),
        attempt=int(told.get("run_attempt") or 1),
        name=str(told["name"] or ""),
        url=str(told.get("html_url") or ""),
        ref=str(told.get("head_branch") or ""),
        fork=fork,
        runner_name=str(told.get("runner_name") or ""),
        conclusion=str(told.get("conclusion") or ""),
    )


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
