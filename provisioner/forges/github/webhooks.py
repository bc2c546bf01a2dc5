"""GitHub's webhooks: whether one is genuine, and what it tells. Pure: bytes and headers in, a `Delivery` out.

Order and repetition are nobody's promise: a delivery is a hint to look. What a job's webhook does not say is whether it
comes from a fork (`CiJob.fork` is None then); that of its run does.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from provisioner.domain.errors import InvalidRequest, Unauthenticated
from provisioner.domain.forge import CiJob, CiJobState, Delivery, ForgeKind, Site

from . import shapes

LARGEST_BYTES = 25 * 1024 * 1024  # Source: GitHub, "Webhook events and payloads", 2026: payloads are capped at 25 MB
_ACTIONS = {"queued": CiJobState.QUEUED, "in_progress": CiJobState.RUNNING, "completed": CiJobState.DONE}


def check_signature(body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> None:
    """`body` as it came, byte for byte; any of `secrets`, so that one can be replaced while webhooks arrive. Names of
    headers in lower case. The older signature, by SHA-1, does not count.

    Raises: Unauthenticated."""
    given = headers.get("x-hub-signature-256", "").encode()
    wanted = [_signature(body, secret) for secret in secrets if secret]
    if not any(hmac.compare_digest(given, one) for one in wanted):
        raise Unauthenticated("the webhook's signature is missing or wrong", hint="give GitHub and us the same secret")


def read_delivery(body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> Delivery:
    """What a genuine webhook tells; `facts` are action, repository, installation and hook, and of a run its id,
    attempt, state, conclusion and whether it is a fork's (yes or no).

    Raises: Unauthenticated, InvalidRequest."""
    if len(body) > LARGEST_BYTES:
        raise InvalidRequest("a webhook of more than 25 MB is none of GitHub's")
    check_signature(body, headers, secrets)
    event, number = headers.get("x-github-event", ""), headers.get("x-github-delivery", "")
    if not event or not number:
        raise InvalidRequest("a webhook of GitHub's names its event and its delivery")
    try:
        told = json.loads(body)
        if not isinstance(told, dict):
            raise InvalidRequest("a webhook's payload is an object")
        job = _job(told) if event == "workflow_job" else None
        return Delivery(number, event, job, _facts(event, told, headers))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "set the webhook's content type to application/json"
        raise InvalidRequest(f"the payload of {event[:40]} is not as GitHub documents it", hint=hint) from error


def _signature(body: bytes, secret: str) -> bytes:
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}".encode()


def _job(told: Mapping[str, Any]) -> CiJob | None:
    """None for what waits for something else than a runner, and for GitHub's own machines."""
    row, repository = told["workflow_job"], told["repository"]["full_name"]
    if told["action"] not in _ACTIONS or not shapes.ours(row["labels"]):
        return None
    base = told["repository"]["html_url"].removesuffix(f"/{repository}")
    return shapes.job(row, Site(ForgeKind.GITHUB, base, repository), repository, None)


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
