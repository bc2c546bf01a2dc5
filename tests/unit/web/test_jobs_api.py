"""Jobs through the people's API: what is stored, what is refused, and in which words."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from provisioner.domain.job import JobSpec, Outcome, Reason, Why
from provisioner.domain.place import Ladder, Rung

from .served import OFFER, Served


def new(job_id: str = "job-one", handed: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"id": job_id, "spec": {"run": "true"} | spec, "secrets": handed or {}}


async def test_a_submitted_job_is_stored_and_the_engine_poked(web: Served) -> None:
    answer = await web.control.post("/api/v1/jobs", new(name="train", env={"A": "1"}, retries=2))
    assert answer.status == 201
    assert (answer.json["owner"], answer.json["phase"], answer.json["spec"]["name"]) == ("ann", "queued", "train")
    assert (await web.store.jobs.get("job-one")).spec == JobSpec(run="true", name="train", env={"A": "1"}, retries=2)
    assert web.desk.pokes == 1


async def test_the_same_id_again_is_the_stored_job(web: Served) -> None:
    await web.control.post("/api/v1/jobs", new(name="first"))
    answer = await web.control.post("/api/v1/jobs", new(name="second"))
    assert answer.status == 200
    assert answer.json["spec"]["name"] == "first"


async def test_somebody_elses_id_is_a_conflict(web: Served) -> None:
    await web.control.post("/api/v1/jobs", new())
    answer = await (await web.person("user")).post("/api/v1/jobs", new())
    assert (answer.status, answer.kind) == (409, "Conflict")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"run": ""}, "spec.run"),
        ({"run": []}, "spec.run"),
        ({"run": 5}, "spec.run"),
        ({"runn": "x"}, "unknown field 'runn'"),
        ({"need": {"gpus": 1}}, "spec.need: unknown field 'gpus'"),
        ({"kind": "mystery"}, "spec.kind"),
        ({"name": "pool/gpu"}, "spec.name: only a pool's own runners are called pool/NAME"),
        ({"retries": -1}, "spec.retries"),
        ({"retries": "many"}, "spec.retries"),
        ({"timeout_s": 0}, "spec.timeout_s"),
        ({"env": {"1A": "x"}}, "spec.env"),
        ({"env": {"A": 1}}, "spec.env.A"),
        ({"outputs": ["../x"]}, "spec.outputs[0]: '../x' is outside the workspace"),
        ({"outputs": ["ok", "/etc/passwd"]}, "spec.outputs[1]"),
        ({"outputs": ["~/x"]}, "spec.outputs[0]"),
        ({"checkpoint": {"path": "a/../../b"}}, "spec.checkpoint.path"),
        ({"inputs": [{"source": "ftp://h/x", "to": "d"}]}, "spec.inputs[0].source"),
        ({"inputs": [{"source": "s3://b/x", "to": "/d"}]}, "spec.inputs[0].to"),
        ({"inputs": [{"source": "relative", "to": "d"}]}, "not absolute"),
        ({"need": {"max_price": "cheap"}}, "spec.need.max_price"),
        ({"need": {"memory_gib": -1}}, "spec.need.memory_gib"),
        ({"workspace": {"sha256": "x", "size": 1, "files": 1}}, "spec.workspace.sha256"),
        ({"workspace": {"sha256": "a" * 64, "size": 1, "files": 1}}, "has not been uploaded"),
        ({"secrets": ["HF_TOKEN"]}, "missing secret: HF_TOKEN"),
        ({"secrets": ["not a name"]}, "spec.secrets"),
        ({"name": "\x1b[2Jgone"}, r"spec.name: '\x1b[2Jgone' is not a name"),
        ({"name": "a\0b"}, "spec.name"),
        ({"name": "x" * 201}, "spec.name"),
        (
            {"max_lifetime_s": 1e300},
            "spec.max_lifetime_s: 1e+300 s is over the longest duration, 10 years (315360000 s)",
        ),
        ({"timeout_s": 315360001.0}, "spec.timeout_s: "),
        ({"idle_timeout_s": 1e12}, "spec.idle_timeout_s: "),
        ({"checkpoint": {"path": "c", "every_s": 1e12}}, "spec.checkpoint.every_s: "),
    ],
)
async def test_what_cannot_be_is_refused_by_name_and_nothing_is_stored(
    web: Served, spec: dict[str, Any], says: str
) -> None:
    answer = await web.control.post("/api/v1/jobs", new(**spec))
    assert (answer.status, answer.kind) == (400, "InvalidRequest")
    assert says in answer.message
    assert await web.store.jobs.find() == []


HALF = "\ud800"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (new(run=HALF), "body: half a character"),
        (new(name=HALF), "body: half a character"),
        (new(handed={"A": f"{HALF}-a-secret"}, secrets=["A"]), "body: half a character"),
        (new(need={"image": HALF}), "body: half a character"),
        (new(log_limit_bytes=10**400), "body: 100000000000... is a number of more than 64 bits"),
        (new(need={"cpus": -(10**400)}), "body: -10000000000... is a number of more than 64 bits"),
        (b"[" * 100_000, "body: nested too deeply"),
        (b'"\xed\xa0\x80"', "body: not text in UTF-8"),
        (b'{"id": ', "body: not JSON (line 1, column 8)"),
    ],
)
async def test_what_cannot_be_decoded_or_kept_is_refused(web: Served, body: Any, says: str) -> None:
    answer = await web.control.post("/api/v1/jobs", body)
    assert (answer.status, answer.kind) == (400, "InvalidRequest")
    assert answer.message.startswith(says)


async def test_a_secret_of_half_a_character_is_refused(web: Served) -> None:
    assert (await web.control.call("PUT", "/api/v1/secrets/A", {"value": f"{HALF}-a-secret"})).status == 400


async def test_no_attempt_has_so_large_a_number(web: Served) -> None:
    job = await web.job()
    for what in ("readings", "results"):
        assert (await web.control.get(f"/api/v1/jobs/{job.id}/{what}?attempt={2**63}")).status == 400


@pytest.mark.parametrize("job_id", ["", "../x", "A", "x" * 80, "a b", "job_1", "job\n"])
async def test_an_id_that_could_be_a_path_is_refused(web: Served, job_id: str) -> None:
    assert (await web.control.post("/api/v1/jobs", new(job_id))).status == 400


async def test_impossible_work_is_refused_with_the_ladder(web: Served) -> None:
    web.desk.ladder_now = Ladder((Rung(OFFER, "has no GPU, asked for A100", lasting=True),))
    answer = await web.control.post("/api/v1/jobs", new(handed={"TOKEN": "long-enough"}, secrets=["TOKEN"]))
    assert (answer.status, answer.kind) == (422, "Impossible")
    assert "has no GPU, asked for A100" in answer.json["error"]["hint"]
    assert await web.store.records.secrets("ann", ["TOKEN"], job_id="job-one") == {}


async def test_a_provider_that_is_not_here_is_named(web: Served) -> None:
    web.desk.ladder_now = Ladder((), unknown=("mars",), known=("local", "aws"))
    answer = await web.control.post("/api/v1/jobs", new())
    assert (answer.status, answer.kind) == (400, "InvalidRequest")
    assert answer.json["error"]["message"] == "no provider 'mars' here"
    assert answer.json["error"]["hint"] == "known: local, aws"


async def test_work_over_the_cap_is_refused_as_such(web: Served) -> None:
    web.desk.ladder_now = Ladder((Rung(OFFER, "alone costs more than the cap", lasting=True, over_cap=True),))
    answer = await web.control.post("/api/v1/jobs", new())
    assert (answer.status, answer.kind) == (402, "OverBudget")


async def test_many_jobs_are_listed_with_what_each_cost(web: Served) -> None:
    instance = await web.instance(offer=replace(OFFER, usd_per_hour=None))
    charged = await web.assigned(await web.job(), instance)
    for _ in range(25):
        await web.job()
    listed = {job["id"]: job["cost_unknown"] for job in (await web.control.get("/api/v1/jobs")).json}
    assert len(listed) == 26
    assert [job_id for job_id, unknown in listed.items() if unknown] == [charged.job_id]


async def test_a_handed_secret_is_the_jobs_alone(web: Served) -> None:
    body = {"id": "job-one", "spec": {"run": "true", "secrets": ["TOKEN"]}, "secrets": {"TOKEN": "hunter22"}}
    answer = await web.control.post("/api/v1/jobs", body)
    assert answer.status == 201
    assert b"hunter22" not in answer.body
    assert await web.store.records.secrets("ann", ["TOKEN"], job_id="job-one") == {"TOKEN": "hunter22"}
    assert await web.store.records.secrets("ann", ["TOKEN"]) == {}


async def test_a_short_secret_is_refused_without_showing_it(web: Served) -> None:
    body = {"id": "job-one", "spec": {"run": "true", "secrets": ["TOKEN"]}, "secrets": {"TOKEN": "zq9zq"}}
    answer = await web.control.post("/api/v1/jobs", body)
    assert answer.status == 400
    assert "shorter than 6" in answer.message
    assert b"zq9zq" not in answer.body


async def test_a_secret_that_was_not_asked_for_is_refused(web: Served) -> None:
    assert (await web.control.post("/api/v1/jobs", new(handed={"X": "something"}))).status == 400


async def test_only_the_local_caller_may_read_the_controllers_files(web: Served) -> None:
    inputs = [{"source": "/etc/hostname", "to": "data"}]
    person = await web.person("user")
    answer = await person.post("/api/v1/jobs", new(inputs=inputs))
    assert answer.status == 400
    assert "path on the controller" in answer.message
    assert (await web.control.post("/api/v1/jobs", new(inputs=inputs))).status == 201


async def test_an_uploaded_workspace_is_taken(web: Served) -> None:
    blob = b"tar" * 1000
    sha256 = hashlib.sha256(blob).hexdigest()
    assert (await web.control.call("PUT", f"/api/v1/blobs/{sha256}", blob)).status == 201
    workspace = {"sha256": sha256, "size": len(blob), "files": 1}
    assert (await web.control.post("/api/v1/jobs", new(workspace=workspace))).status == 201


async def test_lists_show_open_jobs_and_all_shows_all(web: Served) -> None:
    first, second = await web.job(), await web.job()
    await web.store.jobs.finish(first, Outcome.CANCELLED, Reason(Why.CANCELLED), web.services.clock.now())
    listed = (await web.control.get("/api/v1/jobs")).json
    assert [job["id"] for job in listed] == [second.id]
    assert (listed[0]["cost_usd"], listed[0]["cost_unknown"]) == ("0.00", False)
    assert len((await web.control.get("/api/v1/jobs?all=1")).json) == 2
    assert len((await web.control.get("/api/v1/jobs?all=1&limit=1")).json) == 1


async def test_a_shown_job_has_its_attempts_charges_and_results(web: Served) -> None:
    agent, attempt = await web.running(JobSpec(run="true", name="shown"))
    await agent.log(attempt, 0, (1, b"hello\n"))
    shown = (await web.control.get("/api/v1/jobs/shown")).json
    assert shown["id"] == attempt.job_id
    assert (shown["attempts_list"][0]["log_size"], shown["attempts_list"][0]["instance"]["id"]) == (
        6,
        attempt.instance_id,
    )
    assert [charge["phase"] for charge in shown["charges"]] == ["setup"]
    assert shown["manifests"] == {"results": None}
    assert shown["cost_unknown"] is False


async def test_an_unknown_price_is_unknown_and_never_zero(web: Served) -> None:
    instance = await web.instance(offer=replace(OFFER, usd_per_hour=None))
    attempt = await web.assigned(await web.job(), instance)
    shown = (await web.control.get(f"/api/v1/jobs/{attempt.job_id}")).json
    assert (shown["cost_usd"], shown["cost_unknown"]) == (None, True)


async def test_why_a_job_waits(web: Served) -> None:
    job = await web.job()
    why = (await web.control.get(f"/api/v1/jobs/{job.id}/why")).json
    assert why["lines"][0].startswith(f"{job.id} has waited for")
    assert why["lines"][1] == f"the best offer now is {OFFER}"
    assert why["ladder"] == [{"offer": str(OFFER), "refused": ""}]
    assert [event["what"] for event in why["events"]] == ["job.queued"]


async def test_cancelling_asks_and_pokes(web: Served) -> None:
    job = await web.job()
    answer = await web.control.post(f"/api/v1/jobs/{job.id}/cancel", {"now": True})
    assert answer.json["cancel_now"] is True
    assert web.desk.pokes == 1


async def test_a_rerun_is_the_same_spec_with_its_secrets(web: Served) -> None:
    body = {"id": "job-one", "spec": {"run": ["a", "b"], "secrets": ["TOKEN"]}, "secrets": {"TOKEN": "hunter22"}}
    await web.control.post("/api/v1/jobs", body)
    answer = await web.control.post("/api/v1/jobs/job-one/rerun", {"id": "job-two"})
    assert answer.status == 201
    assert answer.json["spec"]["rerun_of"] == "job-one"
    assert answer.json["spec"]["run"] == ["a", "b"]
    assert await web.store.records.secrets("ann", ["TOKEN"], job_id="job-two") == {"TOKEN": "hunter22"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/jobs/none"),
        ("GET", "/api/v1/jobs/none/log"),
        ("GET", "/api/v1/jobs/none/results"),
        ("POST", "/api/v1/jobs/none/cancel"),
        ("GET", "/api/v1/instances/none"),
        ("POST", "/api/v1/instances/none/stop"),
        ("DELETE", "/api/v1/tokens/none"),
        ("DELETE", "/api/v1/secrets/none"),
        ("GET", "/api/v1/nonsense"),
        ("GET", "/elsewhere"),
    ],
)
async def test_unknown_things_are_not_found(web: Served, method: str, path: str) -> None:
    answer = await web.control.call(method, path, {} if method == "POST" else None)
    assert (answer.status, answer.kind) == (404, "NotFound")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"id": 1}', b'{"id": "a-b-c"}', b"[" * 100_000]
)
async def test_malformed_bodies_are_one_clear_refusal(web: Served, body: bytes) -> None:
    answer = await web.control.call("POST", "/api/v1/jobs", body)
    assert (answer.status, answer.kind) == (400, "InvalidRequest")


async def test_a_body_over_the_limit_is_refused_unread(web: Served) -> None:
    answer = await web.control.call("POST", "/api/v1/jobs", b"", {"Content-Length": str(2**30)})
    assert answer.status == 413
