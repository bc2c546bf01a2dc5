"""Webhooks of a GitLab: job events ("build"). Pure: bytes and headers in, a `Delivery` out.

The event of a waiting job does not say which tags it has, nor where its pipeline comes from: such a delivery has no
`job` but says in its facts which one to ask the forge for. Source: docs.gitlab.com user/project/integrations, 2026.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from provisioner.domain.errors import InvalidRequest, Unauthenticated
from provisioner.domain.forge import CiJob, CiJobState, Delivery, ForgeKind, Site

from .jobs import state


def read_delivery(body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> Delivery:
    """What a genuine webhook tells. GitLab sends the secret itself along; any of `secrets` will do. Names of headers
    in lower case.

    Raises: Unauthenticated, InvalidRequest."""
    given = headers.get("x-gitlab-token", "").encode()
    if not any(hmac.compare_digest(given, one.encode()) for one in secrets if one):
        raise Unauthenticated("the webhook's token is missing or wrong", hint="give GitLab and us the same secret")
    told = _object(body)
    event = str(told.get("object_kind") or headers.get("x-gitlab-event", ""))
    key = headers.get("idempotency-key") or headers.get("x-gitlab-event-uuid", "")
    if not key:
        raise InvalidRequest("a webhook of GitLab's has an Idempotency-Key or an X-Gitlab-Event-UUID")
    if event != "build":
        return Delivery(key, event)
    try:
        return _build(key, told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidRequest("a job event that is not as GitLab documents it") from error


def _build(key: str, told: dict[str, Any]) -> Delivery:
    status, at = str(told["build_status"]), state(str(told["build_status"]))
    repository, page = str(told["project"]["path_with_namespace"]), str(told["project"]["web_url"])
    facts = {"job": str(int(told["build_id"])), "repository": repository, "status": status}
    if at is CiJobState.QUEUED:
        return Delivery(key, "build", None, facts)
    job = CiJob(
        id=facts["job"],
        site=Site(ForgeKind.GITLAB, page.removesuffix(f"/{repository}"), repository),
        repository=repository,
        state=at,
        labels=(),
        created_at=_time(told),
        run_id=str(told.get("pipeline_id") or ""),
        name=str(told.get("build_name") or ""),
        url=f"{page}/-/jobs/{facts['job']}",
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
        told = json.loads(body)
    except ValueError as error:
        raise InvalidRequest("a webhook that is not JSON") from error
    if not isinstance(told, dict):
        raise InvalidRequest("a webhook that is not an object")
    return told
