"""Webhooks of a Gitea: `workflow_job`, signed over its raw bytes. Pure: bytes and headers in, a `Delivery` out.

A payload does not say whether its job is of a pull request from a fork; `Forge.job` does. One that is held back by
something else (`waiting`, in newer versions `pending` or `requested`) is told of again when it is not. Forgejo has no
such webhook. Source: go-gitea/gitea services/webhook/deliver.go, services/convert/convert.go, modules/structs, 2026.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from provisioner.domain import strict_json
from provisioner.domain.errors import ForgeRefused, ForgeUnauthorized
from provisioner.domain.forge import CiJob, CiJobState, Delivery, Site

from ..misread import SURPRISES, text, why

_STATES = {"queued": CiJobState.QUEUED, "in_progress": CiJobState.RUNNING, "completed": CiJobState.DONE}


def delivery(site: Site, headers: Mapping[str, str], body: bytes, secret: str) -> Delivery:
    """`site` is the whole forge's; names of headers are in lower case.

    Raises: ForgeUnauthorized, it is not signed with `secret`; ForgeRefused, it is not understood."""
    right = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    given = headers.get("x-gitea-signature") or headers.get("x-hub-signature-256", "").removeprefix("sha256=")
    if not secret or not hmac.compare_digest(given.encode(), right.encode()):
        raise ForgeUnauthorized("a webhook that is not signed with our secret", hint="set it on both sides")
    event, key = headers.get("x-gitea-event", ""), headers.get("x-gitea-delivery", "")
    if not key:
        raise ForgeRefused("a webhook without X-Gitea-Delivery")
    if event != "workflow_job":
        return Delivery(f"{site.host} {key}", event)
    try:
        told = strict_json.loads(body)
        repository, action = text(told["repository"]["full_name"]), str(told["action"])
        facts, at = {"repository": repository, "action": action}, _STATES.get(action)
        job = _job(site, repository, at, told["workflow_job"]) if at is not None else None
    except SURPRISES as error:
        raise ForgeRefused(f"a job event that is not understood: {why(error)}") from error
    return Delivery(f"{site.host} {key}", event, job, facts)


def _job(site: Site, repository: str, at: CiJobState, told: dict[str, Any]) -> CiJob:
    return CiJob(
        id=str(int(told["id"])),
        site=Site(site.kind, site.base, repository),
        repository=repository,
        state=at,
        labels=tuple(str(label) for label in told.get("labels") or ()),
        created_at=datetime.fromisoformat(str(told["created_at"])),
        run_id=str(told.get("run_id") or ""),
        attempt=max(1, int(told.get("run_attempt") or 1)),
        name=str(told.get("name") or ""),
        url=str(told.get("html_url") or ""),
        ref=str(told.get("head_branch") or ""),
        fork=None,
        runner_name=str(told.get("runner_name") or ""),
        conclusion=str(told.get("conclusion") or "") if at is CiJobState.DONE else "",
    )
