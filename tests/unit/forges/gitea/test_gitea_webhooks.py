"""Gitea's webhooks of jobs: signed over the bytes that came, and understood."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from provisioner.domain.errors import ForgeRefused, ForgeUnauthorized
from provisioner.domain.forge import CiJobState, ForgeKind, Site
from provisioner.forges.gitea.webhooks import delivery

DEEP = b"[" * 100_000
SITE = Site(ForgeKind("gitea"), "https://gitea.example/git", "")
SECRET = "hook-secret"
JOB: dict[str, Any] = {
    "id": 43,
    "run_id": 12,
    "name": "train",
    "labels": ["gpu-t4", "run-7"],
    "run_attempt": 0,
    "head_branch": "main",
    "status": "queued",
    "runner_name": "",
    "html_url": "https://gitea.example/git/vision/train/actions/runs/12/jobs/43",
    "created_at": "2026-11-21T09:00:00Z",
}


def body(action: str = "queued", **changed: Any) -> bytes:
    repository = {"id": 1, "full_name": "vision/train"}
    return json.dumps({"action": action, "workflow_job": {**JOB, **changed}, "repository": repository}).encode()


def headers(sent: bytes, **changed: str) -> dict[str, str]:
    signed = hmac.new(SECRET.encode(), sent, hashlib.sha256).hexdigest()
    told = {"x-gitea-event": "workflow_job", "x-gitea-delivery": "f6266f16", "x-gitea-signature": signed}
    return {**told, **{name.replace("_", "-"): value for name, value in changed.items()}}


def test_a_job_that_waits_is_told_with_its_labels_and_without_its_trust() -> None:
    got = delivery(SITE, headers(body()), body(), SECRET)
    job = got.job
    assert job is not None
    assert job.site == Site(SITE.kind, SITE.base, "vision/train")
    assert (got.id, job.repository, job.state, job.labels, job.fork, job.attempt) == (
        "gitea.example f6266f16",
        "vision/train",
        CiJobState.QUEUED,
        ("gpu-t4", "run-7"),
        None,
        1,
    )


@pytest.mark.parametrize(("action", "state"), [("in_progress", CiJobState.RUNNING), ("completed", CiJobState.DONE)])
def test_a_job_that_runs_or_ended_says_on_which_runner(action: str, state: CiJobState) -> None:
    sent = body(action, run_attempt=2, runner_name="runner-i-7", conclusion="failure")
    job = delivery(SITE, headers(sent), sent, SECRET).job
    assert job is not None
    ended = "failure" if state is CiJobState.DONE else ""
    assert (job.state, job.runner_name, job.attempt, job.conclusion) == (state, "runner-i-7", 2, ended)


@pytest.mark.parametrize("action", ["waiting", "pending", "requested"])
def test_a_job_that_is_held_back_waits_for_no_runner(action: str) -> None:
    """As older and newer versions call it: nothing of it is asked for."""
    sent = body(action)
    got = delivery(SITE, headers(sent), sent, SECRET)
    assert (got.job, dict(got.facts)) == (None, {"repository": "vision/train", "action": action})


def test_the_signature_may_come_in_githubs_form() -> None:
    told = headers(body())
    told["x-hub-signature-256"] = "sha256=" + told.pop("x-gitea-signature")
    assert delivery(SITE, told, body(), SECRET).job is not None


@pytest.mark.parametrize("wrong", ["", "0" * 64, "é", "sha256="])
def test_without_the_right_signature_it_is_not_giteas(wrong: str) -> None:
    with pytest.raises(ForgeUnauthorized) as caught:
        delivery(SITE, headers(body(), x_gitea_signature=wrong), body(), SECRET)
    assert SECRET not in str(caught.value)


def test_one_byte_more_is_another_message() -> None:
    with pytest.raises(ForgeUnauthorized):
        delivery(SITE, headers(body()), body() + b" ", SECRET)


def test_no_secret_lets_nobody_in() -> None:
    signed = hmac.new(b"", body(), hashlib.sha256).hexdigest()
    with pytest.raises(ForgeUnauthorized):
        delivery(SITE, headers(body(), x_gitea_signature=signed), body(), "")


def test_other_events_are_told_by_name_only() -> None:
    got = delivery(SITE, headers(b"{}", x_gitea_event="push"), b"{}", SECRET)
    assert (got.event, got.job) == ("push", None)


@pytest.mark.parametrize(
    "wrong",
    [
        b"{",
        b"{}",
        b"[]",
        body().replace(b"full_name", b"name"),
        body(id="x"),
        body(id=10**40),
        body(created_at=None),
        b"[" * 100_000,
    ],
)
def test_what_is_not_understood_is_refused(wrong: bytes) -> None:
    with pytest.raises(ForgeRefused):
        delivery(SITE, headers(wrong), wrong, SECRET)


def test_without_an_id_it_cannot_be_told_from_one_that_was_there_before() -> None:
    with pytest.raises(ForgeRefused, match="X-Gitea-Delivery"):
        delivery(SITE, headers(body(), x_gitea_delivery=""), body(), SECRET)
