"""Webhooks of a Gitea: `workflow_job`, signed over its raw bytes. Pure: bytes and headers in, a `Delivery` out.

A payload does not say whether its job is of a pull request from a fork; `Forge.job` does. Forgejo has no such webhook.
Source: go-gitea/gitea services/webhook/deliver.go, modules/structs, 2026.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from provisioner.domain.errors import InvalidRequest, Unauthenticated
from provisioner.domain.forge import CiJob, CiJobState, Delivery, ForgeKind, Site

_STATES = {"completed": CiJobState.DONE, "in_progress": CiJobState.RUNNING}


def read_delivery(body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> Delivery:
    """What a genuine webhook tells; any of `secrets` will do. Names of headers in lower case.

    Raises: Unauthenticated, InvalidRequest."""
    given = headers.get("x-gitea-signature") or headers.get("x-hub-signature-256", "").removeprefix("sha256=")
    wanted = [hmac.new(one.encode(), body, hashlib.sha256).hexdigest().encode() for one in secrets if one]
    if not any(hmac.compare_digest(given.encode(), one) for one in wanted):
        raise Unauthenticated("the webhook's signature is missing or wrong", hint="give Gitea and us the same secret")
    event, key = headers.get("x-gitea-event", ""), headers.get("x-gitea-delivery", "")
    if not event or not key:
        raise InvalidRequest("a webhook of Gitea's names its event and its delivery")
    if event != "workflow_job":
        return Delivery(key, event)
    try:
        told = json.loads(body)
        action = str(told["action"])
        job = _job(told["repository"], action, told["workflow_job"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        hint = "set the webhook's content type to application/json"
        raise InvalidRequest("a job event that is not as Gitea documents it", hint=hint) from error
    facts = {"job": job.id, "repository": job.repository, "action": action}
    return Delivery(key, event, job if action != "waiting" else None, facts)


def _job(where: dict[str, Any], action: str, told: dict[str, Any]) -> CiJob:
    """Only what is `queued` waits for a runner; `waiting` is held back by something else."""
    at = _STATES.get(action, CiJobState.QUEUED)
    repository = str(where["full_name"])
    return CiJob(
        id=str(int(told["id"])),
        site=Site(ForgeKind.GITEA, str(where["html_url"]).removesuffix(f"/{repository}"), repository),
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
