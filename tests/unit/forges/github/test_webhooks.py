"""GitHub's webhooks: what is genuine, and what it tells. gidgethub, which is not ours, agrees on the signature."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from gidgethub.sansio import Event

from provisioner.domain.errors import ForgeRefused, ForgeUnauthorized
from provisioner.domain.forge import CiJobState, ForgeKind, Site
from provisioner.forges.github.webhooks import delivery, signed

GITHUB = Site(ForgeKind("github"), "https://github.com", "")
SECRET = "it is a secret"
JOB: dict[str, Any] = {
    "id": 12,
    "run_id": 3,
    "run_attempt": 2,
    "status": "queued",
    "conclusion": None,
    "created_at": "2026-11-21T09:00:00Z",
    "started_at": "2026-11-21T09:00:00Z",
    "name": "train",
    "labels": ["gpu-t4"],
    "head_branch": "main",
    "html_url": "https://github.com/acme/vision/actions/runs/3/job/12",
    "runner_name": None,
}


def payload(action: str = "queued", **changed: Any) -> bytes:
    repository = {"full_name": "acme/vision"}
    return json.dumps({"action": action, "workflow_job": JOB | changed, "repository": repository}).encode()


def headers(body: bytes, event: str = "workflow_job", kind: str = "sha256", secret: str = SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, getattr(hashlib, kind)).hexdigest()
    name = "x-hub-signature-256" if kind == "sha256" else "x-hub-signature"
    numbers = {"x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958", "x-github-hook-id": "7"}
    return {"x-github-event": event, name: f"{kind}={digest}", "content-type": "application/json", **numbers}


def test_a_queued_job_is_told() -> None:
    body = payload()
    told = delivery(GITHUB, headers(body), body, SECRET)
    assert told.id == "github.com 72d3162e-cc78-11e3-81ab-4c9367dc0958"
    assert told.job is not None
    assert told.job.key == ("https://github.com", "12", 2)
    assert (told.job.state, told.job.labels, told.job.repository) == (CiJobState.QUEUED, ("gpu-t4",), "acme/vision")
    assert told.job.site == Site(ForgeKind("github"), "https://github.com", "acme/vision")
    assert told.job.fork is None
    assert told.facts == {"action": "queued", "repository": "acme/vision", "hook": "7"}


def test_another_implementation_agrees_on_what_is_genuine() -> None:
    body = payload()
    assert Event.from_http(headers(body), body, secret=SECRET).data == json.loads(body)
    assert signed(headers(body), body, SECRET)


@pytest.mark.parametrize("spoilt", ["body", "secret", "sha1", "unsigned", "prefix", "no secret of ours"])
def test_what_is_forged_or_unsigned_is_refused(spoilt: str) -> None:
    body = payload()
    given = headers(body, kind="sha1" if spoilt == "sha1" else "sha256")
    if spoilt == "unsigned":
        del given["x-hub-signature-256"]
    if spoilt == "prefix":
        given["x-hub-signature-256"] = given["x-hub-signature-256"].removeprefix("sha256=")
    if spoilt == "secret":
        given = headers(body, secret="it is another")
    if spoilt == "no secret of ours":
        given = headers(body, secret="")
    came = body + b" " if spoilt == "body" else body
    with pytest.raises(ForgeUnauthorized, match="X-Hub-Signature-256"):
        delivery(GITHUB, given, came, "" if spoilt == "no secret of ours" else SECRET)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff\xfe", b'{"workflow_job": 3}', b'{"workflow_job": {}}'])
def test_what_is_signed_and_not_understood_is_refused(body: bytes) -> None:
    with pytest.raises(ForgeRefused, match="not understood"):
        delivery(GITHUB, headers(body), body, SECRET)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"workflow_job": ' + b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe", "not text in UTF-8"),
        (b'{"workflow_job":', r"not JSON \(line 1, column 17\)"),
        (b'{"workflow_job": {"name": "\\ud800"}}', r"half a character \(a lone surrogate\) is in its text"),
        (b'{"workflow_job": {"run_attempt": 1' + b"0" * 400 + b"}}", r"1\d{11}\.\.\. is a number of more than 64 bits"),
        (b'{"workflow_job": {}}', "repository is missing"),
        (b'{"workflow_job": {}, "repository": {"full_name": null}}', "a field is not what it should be"),
    ],
)
def test_why_it_was_not_understood_is_said_in_words(body: bytes, said: str) -> None:
    with pytest.raises(ForgeRefused, match=f"^a workflow_job webhook that is not understood: {said}[^()]*$"):
        delivery(GITHUB, headers(body), body, SECRET)


def test_what_names_no_delivery_is_refused() -> None:
    """It could not be told from its repetition."""
    body = payload()
    given = headers(body)
    del given["x-github-delivery"]
    with pytest.raises(ForgeRefused, match="X-GitHub-Delivery"):
        delivery(GITHUB, given, body, SECRET)


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "waiting"},
        {"status": "pending"},
        {"labels": ["ubuntu-latest"]},
        {"labels": ["Windows-2025"]},
        {"labels": []},
    ],
)
def test_what_no_runner_of_ours_could_have_is_no_demand(changed: dict[str, Any]) -> None:
    """Of a job that waits for an approval the action is `queued` as well: GitHub's own example has it so."""
    body = payload(**changed)
    assert delivery(GITHUB, headers(body), body, SECRET).job is None


@pytest.mark.parametrize("labels", [["self-hosted", "ubuntu-22.04"], ["gpu", "macos"], ["GPU-T4"]])
def test_what_a_runner_of_ours_could_have_is_told(labels: list[str]) -> None:
    body = payload(labels=labels)
    assert delivery(GITHUB, headers(body), body, SECRET).job is not None


def test_an_end_is_told_with_who_had_it() -> None:
    body = payload("completed", status="completed", conclusion="cancelled", runner_name="runner-i-1", created_at=None)
    job = delivery(GITHUB, headers(body), body, SECRET).job
    assert job is not None
    assert (job.state, job.conclusion, job.runner_name) == (CiJobState.DONE, "cancelled", "runner-i-1")


@pytest.mark.parametrize(
    ("head", "fork"), [({"full_name": "acme/vision"}, "no"), ({"full_name": "eve/vision"}, "yes"), (None, "yes")]
)
def test_a_run_tells_whether_it_is_a_forks(head: dict[str, str] | None, fork: str) -> None:
    run = {"id": 3, "run_attempt": 1, "status": "completed", "conclusion": "failure", "head_branch": "main"}
    run |= {"head_repository": head, "repository": {"full_name": "acme/vision"}}
    body = json.dumps({"action": "completed", "workflow_run": run, "repository": run["repository"]}).encode()
    facts = delivery(GITHUB, headers(body, "workflow_run"), body, SECRET).facts
    assert (facts["id"], facts["conclusion"], facts["fork"]) == ("3", "failure", fork)


def test_an_event_that_is_not_ours_is_let_pass() -> None:
    body = b'{"zen": "Keep it logically awesome."}'
    told = delivery(GITHUB, headers(body, "ping"), body, SECRET)
    assert (told.event, told.job) == ("ping", None)
