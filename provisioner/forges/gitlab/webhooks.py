"""Webhooks of a GitLab: job events ("build"). Pure: bytes and headers in, a `Delivery` out.

The event of a waiting job does not say which tags it has, nor where its pipeline comes from: such a delivery has no
`job` but says in its facts which one to ask the forge for. One that is held back (created for a later stage, manual,
scheduled) waits for no runner, and is told of again when it does.
Source: docs.gitlab.com user/project/integrations (webhooks, webhook_events), ci/jobs, 2026.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from provisioner.domain import strict_json
from provisioner.domain.errors import ForgeRefused, ForgeUnauthorized
from provisioner.domain.forge import CiJob, CiJobState, Delivery, Site

from ..misread import SURPRISES, text, why
from .jobs import state

_SIGNING = "whsec_"


def delivery(site: Site, headers: Mapping[str, str], body: bytes, secret: str) -> Delivery:
    """`site` is the whole forge's; names of headers are in lower case. GitLab sends a secret token itself along;
    with a signing token, which begins with whsec_ and newer ones have, it signs.

    Raises: ForgeUnauthorized, it is not GitLab's; ForgeRefused, it is not understood."""
    if secret.startswith(_SIGNING):
        _check(headers, body, secret)
    elif not secret or not hmac.compare_digest(headers.get("x-gitlab-token", "").encode(), secret.encode()):
        raise ForgeUnauthorized("a webhook without the right X-Gitlab-Token", hint="set it on both sides")
    told = _object(body)
    event = str(told.get("object_kind") or headers.get("x-gitlab-event", ""))
    key = headers.get("webhook-id", "") if secret.startswith(_SIGNING) else _key(headers)
    if not key:
        raise ForgeRefused("a webhook without Idempotency-Key and X-Gitlab-Event-UUID", hint="GitLab 15.0 sends them")
    if event != "build":
        return Delivery(f"{site.host} {key}", event)
    try:
        return _build(site, f"{site.host} {key}", told)
    except SURPRISES as error:
        raise ForgeRefused(f"a job event that is not understood: {why(error)}") from error


def _check(headers: Mapping[str, str], body: bytes, secret: str) -> None:
    """What is signed is the delivery's id too: one that is sent again by somebody else is known by it.

    Raises: ForgeUnauthorized."""
    try:
        key = base64.b64decode(secret.removeprefix(_SIGNING), validate=True)
    except ValueError as error:
        raise ForgeUnauthorized("the webhook secret is no signing token", hint="whsec_ and base64") from error
    signed = f"{headers.get('webhook-id', '')}.{headers.get('webhook-timestamp', '')}.".encode() + body
    right = b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    given = headers.get("webhook-signature", "").split()
    if not key or not any(hmac.compare_digest(one.encode(), right) for one in given):
        raise ForgeUnauthorized("a webhook without the right webhook-signature", hint="set its token on both sides")


def _key(headers: Mapping[str, str]) -> str:
    return headers.get("idempotency-key") or headers.get("x-gitlab-event-uuid", "")


def _build(site: Site, key: str, told: dict[str, Any]) -> Delivery:
    status, at = str(told["build_status"]), state(str(told["build_status"]))
    repository = text(told["project"]["path_with_namespace"])
    facts = {"job": str(int(told["build_id"])), "repository": repository, "status": status}
    if at is CiJobState.QUEUED:
        return Delivery(key, "build", None, facts if status == "pending" else {"status": status})
    job = CiJob(
        id=facts["job"],
        site=Site(site.kind, site.base, repository),
        repository=repository,
        state=at,
        labels=(),
        created_at=_time(told),
        run_id=str(told.get("pipeline_id") or ""),
        name=str(told.get("build_name") or ""),
        url=f"{told['project'].get('web_url', '')}/-/jobs/{facts['job']}",
        ref=str(told.get("ref") or ""),
        fork=None,
        runner_name=str((told.get("runner") or {}).get("description") or ""),
        conclusion=status if at is CiJobState.DONE else "",
    )
    return Delivery(key, "build", job, facts)


def _time(told: dict[str, Any]) -> datetime:
    """Two forms of it: newer versions send ISO beside "2026-11-21 09:00:00 UTC"."""
    text = str(told.get("build_created_at_iso") or told["build_created_at"]).replace(" UTC", "+00:00")
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _object(body: bytes) -> dict[str, Any]:
    try:
        told = strict_json.loads(body)
    except strict_json.NotJson as error:
        raise ForgeRefused(f"a webhook that is not understood: {error}") from error
    if not isinstance(told, dict):
        raise ForgeRefused("a webhook that is not an object")
    return told
