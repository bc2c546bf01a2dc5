"""GitHub's webhooks: whether one is genuine, and what it tells. Pure: bytes and headers in, a `Delivery` out.

Order and repetition are nobody's promise: a delivery is a hint to look. What a job's webhook does not say is whether it
comes from a fork (`CiJob.fork` is None then); that of its run does.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from provisioner.domain import strict_json
from provisioner.domain.errors import ForgeRefused, ForgeUnauthorized
from provisioner.domain.forge import CiJob, Delivery, Site

from ..misread import SURPRISES, text, why
from . import shapes

LARGEST_BYTES = 25 * 1024 * 1024  # Source: GitHub, "Webhook events and payloads", 2026: payloads are capped at 25 MB
# The action says less: of what waits for an approval it is `queued`, too.
_STATES = {"queued", "in_progress", "completed"}


def delivery(site: Site, headers: Mapping[str, str], body: bytes, secret: str) -> Delivery:
    """`site` is the whole forge's; names of headers are in lower case; `body` is as it came, byte for byte.

    `facts` are action, repository, installation and hook, and of a run its id, run_attempt, status, conclusion,
    head_branch, and whether it is a fork's (yes or no).

    Raises: ForgeUnauthorized, it is not GitHub's; ForgeRefused, it is not understood."""
    if len(body) > LARGEST_BYTES:
        raise ForgeRefused("a webhook of more than 25 MB is none of GitHub's")
    if not signed(headers, body, secret):
        hint = "give the webhook and us the same secret"
        raise ForgeUnauthorized("a webhook without the right X-Hub-Signature-256", hint=hint)
    event, number = headers.get("x-github-event", ""), headers.get("x-github-delivery", "")
    if not event or not number:
        raise ForgeRefused("a webhook without X-GitHub-Event and X-GitHub-Delivery is none of GitHub's")
    try:
        told = strict_json.loads(body)
        job = _job(site, told) if event == "workflow_job" else None
        return Delivery(f"{site.host} {number}", event, job, _facts(event, told, headers))
    except SURPRISES as error:
        hint = "set the webhook's content type to application/json"
        raise ForgeRefused(f"a {event[:40]} webhook that is not understood: {why(error)}", hint=hint) from error


def signed(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether GitHub has signed it with this secret. The older signature, by SHA-1, does not count, nor does none."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    given = headers.get("x-hub-signature-256", "")
    return bool(secret) and hmac.compare_digest(given.encode(), f"sha256={digest}".encode())


def _job(site: Site, told: Mapping[str, Any]) -> CiJob | None:
    """None for what waits for something else than a runner, and for GitHub's own machines."""
    row, repository = told["workflow_job"], text(told["repository"]["full_name"])
    if row["status"] not in _STATES or not shapes.ours(row["labels"]):
        return None
    return shapes.job(row, Site(site.kind, site.base, repository), repository, None)


def _facts(event: str, told: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, str]:
    facts = {
        "action": told.get("action", ""),
        "repository": (told.get("repository") or {}).get("full_name", ""),
        "installation": (told.get("installation") or {}).get("id", ""),
        "hook": headers.get("x-github-hook-id", ""),
    }
    if event == "workflow_run":
        run = told["workflow_run"]
        facts |= {name: run.get(name) for name in ("id", "run_attempt", "status", "conclusion", "head_branch")}
        facts["fork"] = "yes" if shapes.from_fork(run) else "no"
    return {name: str(value) for name, value in facts.items() if value not in ("", None)}
