"""GitLab's webhooks of jobs: known by their token, understood whatever version sent them, and nothing else taken."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from provisioner.domain.errors import ForgeRefused, ForgeUnauthorized
from provisioner.domain.forge import CiJobState, ForgeKind, Site
from provisioner.forges.gitlab.webhooks import delivery

DEEP = b"[" * 100_000
SITE = Site(ForgeKind("gitlab"), "https://gitlab.example", "")
SECRET = "hook-secret"
HEADERS = {
    "x-gitlab-token": SECRET,
    "x-gitlab-event": "Job Hook",
    "x-gitlab-event-uuid": "13792a34-cac6-4fda-95a8-c58e00a3954e",
    "idempotency-key": "f5e57ba9-b1c2-4ff5-9c04-b5ab0c4a2e00",
}
BUILD: dict[str, Any] = {
    "object_kind": "build",
    "ref": "main",
    "build_id": 1977,
    "build_name": "train",
    "build_status": "running",
    "build_created_at": "2026-11-21 09:00:00 UTC",
    "pipeline_id": 2366,
    "runner": {"id": 380987, "description": "runner-i-7", "tags": ["gpu"]},
    "project": {
        "id": 380,
        "path_with_namespace": "team/vision/train",
        "web_url": "https://gitlab.example/team/vision/train",
    },
}


def body(**changed: Any) -> bytes:
    return json.dumps({**BUILD, **changed}).encode()


def test_a_job_that_runs_says_where() -> None:
    got = delivery(SITE, HEADERS, body(), SECRET)
    assert got.id == "gitlab.example f5e57ba9-b1c2-4ff5-9c04-b5ab0c4a2e00"
    job = got.job
    assert job is not None
    assert job.site == Site(SITE.kind, SITE.base, "team/vision/train")
    assert (job.id, job.repository, job.state, job.runner_name) == (
        "1977",
        "team/vision/train",
        CiJobState.RUNNING,
        "runner-i-7",
    )
    assert (job.created_at, job.fork, job.key) == (
        datetime(2026, 11, 21, 9, tzinfo=UTC),
        None,
        ("https://gitlab.example", "1977", 1),
    )


def test_a_job_that_waits_has_to_be_asked_for() -> None:
    got = delivery(SITE, HEADERS, body(build_status="pending", runner=None), SECRET)
    assert got.job is None
    assert got.facts == {"job": "1977", "repository": "team/vision/train", "status": "pending"}


@pytest.mark.parametrize("status", ["created", "preparing", "manual", "scheduled", "waiting_for_resource"])
def test_a_job_that_is_held_back_waits_for_no_runner(status: str) -> None:
    """For an earlier stage, somebody's click, its time: nothing of it is asked for."""
    got = delivery(SITE, HEADERS, body(build_status=status, runner=None), SECRET)
    assert (got.job, dict(got.facts)) == (None, {"status": status})


@pytest.mark.parametrize("status", ["success", "failed", "canceled", "skipped"])
def test_a_job_that_ended_says_how(status: str) -> None:
    got = delivery(SITE, HEADERS, body(build_status=status, build_created_at_iso="2026-11-21T10:00:00+01:00"), SECRET)
    assert got.job is not None
    assert (got.job.state, got.job.conclusion) == (CiJobState.DONE, status)
    assert got.job.created_at == datetime(2026, 11, 21, 9, tzinfo=UTC)


def test_what_is_delivered_again_has_the_same_id_whatever_is_in_it() -> None:
    first = delivery(SITE, HEADERS, body(), SECRET)
    assert delivery(SITE, {**HEADERS, "x-gitlab-event-uuid": "another"}, body(ref="x"), SECRET).id == first.id


def test_other_events_are_told_by_name_only() -> None:
    got = delivery(SITE, HEADERS, json.dumps({"object_kind": "push"}).encode(), SECRET)
    assert (got.event, got.job, dict(got.facts)) == ("push", None, {})


@pytest.mark.parametrize("token", ["", "hook-secre", "hook-secret2", "HOOK-SECRET", "hook-sécret"])
def test_without_the_right_token_it_is_not_gitlabs(token: str) -> None:
    with pytest.raises(ForgeUnauthorized) as caught:
        delivery(SITE, {**HEADERS, "x-gitlab-token": token}, body(), SECRET)
    assert SECRET not in str(caught.value)


def test_no_secret_lets_nobody_in() -> None:
    with pytest.raises(ForgeUnauthorized):
        delivery(SITE, {**HEADERS, "x-gitlab-token": ""}, body(), "")


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"[]",
        b"{",
        body(build_id="x"),
        body(build_id=10**40),
        body(project=None),
        body(build_created_at="yesterday"),
        b"[" * 100_000,
    ],
)
def test_what_is_not_understood_is_refused(wrong: bytes) -> None:
    with pytest.raises(ForgeRefused):
        delivery(SITE, HEADERS, wrong, SECRET)


def test_without_an_id_it_cannot_be_told_from_one_that_was_there_before() -> None:
    with pytest.raises(ForgeRefused, match="Idempotency-Key"):
        delivery(SITE, {"x-gitlab-token": SECRET}, body(), SECRET)


def test_the_webhooks_own_id_is_not_its_deliveries() -> None:
    """It is the same for each of them: all but the first would count as delivered before."""
    headers = {"x-gitlab-token": SECRET, "x-gitlab-webhook-uuid": "9d1a6f4e-0001-4c5b-8d0e-2f6a3b7c9e10"}
    with pytest.raises(ForgeRefused, match="X-Gitlab-Event-UUID"):
        delivery(SITE, headers, body(), SECRET)


KEY = bytes(range(32))
SIGNING = f"whsec_{base64.b64encode(KEY).decode()}"


def signed(sent: bytes, key: bytes = KEY) -> dict[str, str]:
    told = {"webhook-id": HEADERS["idempotency-key"], "webhook-timestamp": "1795251600"}
    digest = hmac.new(key, f"{told['webhook-id']}.{told['webhook-timestamp']}.".encode() + sent, hashlib.sha256)
    return {**told, "webhook-signature": f"v1,{base64.b64encode(digest.digest()).decode()}"}


def test_what_is_signed_with_the_signing_token_is_gitlabs() -> None:
    told = signed(body())
    got = delivery(SITE, told, body(), SIGNING)
    assert got.id == "gitlab.example f5e57ba9-b1c2-4ff5-9c04-b5ab0c4a2e00"
    two = f"v1,{'A' * 43}= {told['webhook-signature']}"
    assert delivery(SITE, {**told, "webhook-signature": two}, body(), SIGNING).job == got.job


def test_what_somebody_sends_again_under_another_key_is_known_by_the_id_that_was_signed() -> None:
    again = {**signed(body()), "idempotency-key": "another", "x-gitlab-event-uuid": "another"}
    assert delivery(SITE, again, body(), SIGNING).id == "gitlab.example f5e57ba9-b1c2-4ff5-9c04-b5ab0c4a2e00"


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,é"},
        {"webhook-id": "another"},
        {"webhook-timestamp": "1795251601"},
        signed(body(), b"another key"),
        signed(body() + b" "),
    ],
)
def test_what_is_not_signed_with_it_is_refused_whatever_token_it_has(changed: dict[str, str]) -> None:
    told = {**HEADERS, **signed(body()), **changed, "x-gitlab-token": SIGNING}
    with pytest.raises(ForgeUnauthorized, match="webhook-signature"):
        delivery(SITE, told, body(), SIGNING)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!", "whsec_é"])
def test_a_signing_token_that_is_none_lets_nobody_in(secret: str) -> None:
    with pytest.raises(ForgeUnauthorized):
        delivery(SITE, signed(body(), b""), body(), secret)
