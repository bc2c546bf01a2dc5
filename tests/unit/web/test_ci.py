"""CI runs come in by their forge's own token, and see and stop what their own run made; over HTTP, real issuer too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from provisioner.app.ci import Door
from provisioner.app.clock import SystemClock
from provisioner.app.forges import OpenForges
from provisioner.domain.budget import Budget, Period
from provisioner.domain.ci import CiPolicy
from provisioner.domain.demand import NoDemand
from provisioner.domain.forge import CiJob, CiJobState, ForgeKind, Site
from provisioner.domain.job import Instance, Job, Need
from provisioner.domain.policy import Policy
from provisioner.domain.pools import Pool
from provisioner.domain.ports import Clock
from provisioner.forge_settings import ForgeSettings
from provisioner.forges.oidc import Issuers
from provisioner.forges.registry import known
from tests.fakes.hand_clock import HandClock
from tests.fakes.issuer import Issuer
from tests.fakes.open_forge import FakeForges
from tests.house.http_routes import described

from .served import Answer, Http, Served, serve

US = "https://runner.example"
HUB = Site(ForgeKind("github"), "https://github.com", "")
_SIZES = {"small": 1, "large": 2}
POOLS = [Pool(name, (HUB,), ("gpu",), Need(cpus=n), max_lifetime_s=n * 60.0) for name, n in _SIZES.items()]
VISION = "https://github.com/acme/vision"


class WithDoor(Served):
    """A controller that lets runs of acme/* in, by an issuer that a test owns."""

    def __init__(self, issuer: Issuer, clock: Clock, *given: Any) -> None:
        super().__init__(*given)
        self.issuer = issuer
        self.world = FakeForges({"token": {"acme/vision"}})
        settings = [ForgeSettings.model_validate({"kind": "github", "token_env": "HUB"}, context=known())]
        forges = OpenForges(settings, self.folder, {"HUB": "token"}, clock, opener=self.world.open)
        policy = CiPolicy(HUB, issuer.url, US, ("acme/*",), 4, Decimal(5), 7200.0, key="k1")
        forked = replace(policy, repositories=("open/*",), pull_requests="forks", key="k2")
        asked = replace(policy, claims={"environment": "asked"}, pull_requests="own", key="k3")
        self.policies = [asked, policy, forked]
        self.door = Door(self.policies, Issuers({issuer.url}, clock), forges, clock, self.services.session_key)
        demand = NoDemand()
        demand.pools = POOLS
        self.services = replace(self.services, ci=self.door, clock=clock, demand=demand, public_url=US)

    def token(self, **more: Any) -> str:
        now = int(self.services.clock.now().timestamp())
        said = {"iss": self.issuer.url, "aud": US, "iat": now, "nbf": now, "exp": now + 300, "event_name": "push"}
        run = {"repository": "acme/vision", "ref": "refs/heads/main", "run_id": "7", "run_attempt": "1"}
        return self.issuer.token(said | run | more)

    async def exchange(self, token: str) -> Answer:
        return await Http(self.port).post("/api/v1/oidc", {"token": token})

    async def run(self, **more: Any) -> Http:
        """A session of a run."""
        answer = await self.exchange(self.token(**more))
        assert answer.status == 201, answer.body
        return Http(self.port, answer.json["token"])

    async def events(self, what: str) -> list[str]:
        return [one.message for one in await self.store.records.events() if one.what == what]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    return SystemClock()


@pytest.fixture
async def web(tmp_path: Path, issuer: Issuer, clock: Clock) -> AsyncIterator[WithDoor]:
    plain = await serve(tmp_path)
    for listener in plain.listeners:
        await listener.close()
    made = WithDoor(issuer, clock, tmp_path, plain.store, str(tmp_path / "objects"), Policy())
    await made.start()
    yield made
    await made.door.close()
    await made.close()


def wish(job_id: str = "ci-job-1", url: str = VISION, pool: str = "", **more: Any) -> dict[str, Any]:
    runner = {"url": url, "forge": "github", "labels": ["run-7"], "pool": pool}
    return {"id": job_id, "spec": {"run": [], "kind": "ci-runner", "runner": runner, **more}}


async def test_a_run_gets_a_session_for_an_hour_and_launches_its_runner(web: WithDoor) -> None:
    answer = await web.exchange(web.token())
    lasts = datetime.fromisoformat(answer.json["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < lasts <= timedelta(hours=1)
    run = Http(web.port, answer.json["token"])
    made = await run.post("/api/v1/jobs", wish())
    assert made.status == 201, made.body
    assert made.json["owner"] == answer.json["owner"]
    assert made.json["spec"]["origin"]["run"] == f"{VISION}#7.1"
    assert made.json["spec"]["max_lifetime_s"] == 7200.0
    assert (await run.post("/api/v1/jobs", wish())).status == 200
    assert await web.events("ci.admitted") == [f"{VISION}#7.1"]


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        ({"repository": "other/vision"}, 403, "no policy of this controller is for other/vision"),
        ({"exp": 1}, 401, "this token has expired"),
        ({"aud": "https://elsewhere.example"}, 401, "this token is made out to somebody else"),
        ({"iss": "https://elsewhere.example"}, 401, "tokens of 'https://elsewhere.example' are not taken here"),
        ({"run_id": None}, 403, "this token is of no CI run"),
        ({"event_name": "pull_request"}, 403, "a run of a pull request, or that may be for one, may not come to this"),
        ({"event_name": "pull_request_target"}, 403, "a run of a pull request, or that may be for one, may not come"),
        ({"event_name": "issue_comment"}, 403, "a run of a pull request, or that may be for one, may not come"),
        ({"event_name": "an_event_of_next_year"}, 403, "a run of a pull request, or that may be for one, may not come"),
    ],
)
async def test_a_refusal_is_one_line_an_event_and_nothing_else(
    web: WithDoor, more: dict[str, Any], status: int, said: str
) -> None:
    answer = await web.exchange(web.token(**more))
    assert (answer.status, answer.message.startswith(said)) == (status, True), answer.body
    (event,) = await web.events("ci.refused")
    assert event.startswith(said)
    assert "\n" not in event
    assert await web.store.jobs.find(phases=()) == []


@pytest.mark.parametrize(
    ("length", "answered"),
    [
        (100, (408, "the body did not come within 0.05 s")),
        (2**17, (413, "the body is over its limit of 65536 bytes")),
    ],
)
async def test_a_body_that_is_late_or_long_is_not_waited_for(
    web: WithDoor, length: int, answered: tuple[int, str]
) -> None:
    web.services.strangers.patience_s = 0.05
    answer = await Http(web.port).call("POST", "/api/v1/oidc", b"{", {"Content-Length": str(length)})
    assert (answer.status, answer.message) == answered


async def test_forged_ones_are_refused(web: WithDoor, issuer: Issuer) -> None:
    claims = {"iss": issuer.url, "aud": US, "repository": "acme/vision", "run_id": "7", "iat": 1, "exp": 2**31}
    forged = (issuer.unsigned(claims), issuer.confused(claims), issuer.token(claims, key_id="x", kid="key-1"), "junk")
    assert [(await web.exchange(one)).status for one in forged] == [401] * 4
    assert len(await web.events("ci.refused")) == 4


async def test_a_pull_request_comes_when_its_forge_says_that_it_is_no_forks(web: WithDoor) -> None:
    pull = {"event_name": "pull_request", "environment": "asked"}
    for job_id, fork, status in (("1", False, 201), ("2", True, 403), ("3", None, 403)):
        if fork is not None:
            now, state = web.services.clock.now(), CiJobState.RUNNING
            web.world.ci_jobs[job_id] = CiJob(job_id, HUB, "acme/vision", state, (), now, fork=fork)
        assert (await web.exchange(web.token(**pull, check_run_id=job_id))).status == status
    assert (await web.exchange(web.token(**pull))).status == 403


async def test_a_forks_run_is_an_owner_of_its_own(web: WithDoor) -> None:
    pull = {"event_name": "pull_request", "repository": "open/vision"}
    answers = [
        await web.exchange(web.token(**more)) for more in (pull, pull | {"run_id": "8"}, {"repository": "open/vision"})
    ]
    assert len({answer.json["owner"] for answer in answers}) == 3


class TestEnds:
    @pytest.fixture
    def clock(self) -> Clock:
        return HandClock()

    async def test_a_session_is_over_with_its_hour_and_a_token_with_its_time(self, web: WithDoor) -> None:
        token = web.token()
        text = (await web.exchange(token)).json["token"]
        run = Http(web.port, text)
        await web.services.clock.sleep(3599)
        assert (await run.get("/api/v1/jobs")).status == 200
        await web.services.clock.sleep(1)
        again = await run.get("/api/v1/jobs")
        assert (again.status, again.message) == (401, "this session has ended")
        assert (await run.post("/api/v1/jobs", wish())).status == 401
        assert (await web.exchange(token)).message == "this token has expired"
        renewed = (await web.exchange(web.token())).json["token"]
        assert (await Http(web.port, renewed).get("/api/v1/jobs")).status == 200


async def test_a_session_ends_with_the_policy_that_granted_it(web: WithDoor) -> None:
    run = await web.run()
    web.policies[1] = replace(web.policies[1], key="changed")
    answer = await run.get("/api/v1/jobs")
    assert (answer.status, answer.message) == (401, "the policy that granted this session was changed")


async def test_a_session_cannot_be_made_or_changed(web: WithDoor) -> None:
    text = (await web.exchange(web.token())).json["token"]
    other = (await web.exchange(web.token(run_id="8"))).json["token"]
    body, seal = text.split(".")[0], other.split(".")[1]
    for wrong in (f"{body}.{seal}", f"{body}.", body, "rc_", f"{body}.{'0' * 64}", "rc_é.é"):
        headers = {"Authorization": f"Bearer {wrong}".encode().decode("latin-1")}
        assert (await Http(web.port, headers=headers).get("/api/v1/jobs")).status == 401


async def _two_runs(web: WithDoor) -> tuple[Http, Http, Job]:
    """A run with a job, another run of the same repository, and the job."""
    mine, theirs = await web.run(), await web.run(run_id="8")
    assert (await mine.post("/api/v1/jobs", wish())).status == 201
    return mine, theirs, await web.store.jobs.get("ci-job-1")


async def test_a_run_sees_and_cancels_its_own_jobs_and_no_others(web: WithDoor) -> None:
    mine, theirs, job = await _two_runs(web)
    await web.job(owner=job.owner)
    ann = await web.job()
    assert [one["id"] for one in (await mine.get("/api/v1/jobs?all=1")).json] == [job.id]
    assert (await theirs.get("/api/v1/jobs?all=1")).json == []
    looks = [
        f"jobs/{job.id}",
        f"jobs/{job.id}/why",
        f"jobs/{job.id}/log",
        f"jobs/{job.id}/readings",
        f"events?job={job.id}",
    ]
    for path in looks:
        assert ((await mine.get(f"/api/v1/{path}")).status, (await theirs.get(f"/api/v1/{path}")).status) == (200, 404)
    assert (await theirs.post(f"/api/v1/jobs/{job.id}/cancel", {})).status == 404
    assert (await theirs.post(f"/api/v1/jobs/{job.id}/awaited", {})).status == 404
    assert (await mine.post(f"/api/v1/jobs/{job.id}/awaited", {})).status == 200
    assert (await mine.post(f"/api/v1/jobs/{ann.id}/cancel", {})).status == 404
    assert (await web.store.jobs.get(job.id)).cancel_asked_at is None
    assert (await mine.post(f"/api/v1/jobs/{job.id}/cancel", {})).status == 200
    assert (await theirs.post("/api/v1/jobs", wish())).status == 409


async def _machine(web: WithDoor, job: Job) -> Instance:
    """One that was planned for that job."""
    now = web.services.clock.now()
    row = replace(await web.instance(job.tenant), id="i-mine", name="runner-mine", planned_for=job.id, created_at=now)
    caps = {"max_instances": 100, "max_usd_per_hour": Decimal(100), "reserve_usd_per_hour": Decimal(0)}
    return await web.store.instances.plan(row, **caps)  # type: ignore[arg-type]


async def test_a_run_sees_and_stops_machines_that_were_rented_for_it_alone(web: WithDoor) -> None:
    mine, theirs, job = await _two_runs(web)
    machine, shared = await _machine(web, job), await web.instance(job.owner)
    assert [one["id"] for one in (await mine.get("/api/v1/instances")).json] == [machine.id]
    assert (await theirs.get("/api/v1/instances")).json == []
    for path in (f"instances/{machine.id}", f"events?instance={machine.id}"):
        assert ((await mine.get(f"/api/v1/{path}")).status, (await theirs.get(f"/api/v1/{path}")).status) == (200, 404)
    assert (await mine.get(f"/api/v1/instances/{shared.id}")).status == 404
    assert (await theirs.post(f"/api/v1/instances/{machine.id}/stop", {})).status == 404
    other = await theirs.post("/api/v1/jobs", wish("ci-job-2"))
    await web.assigned(await web.store.jobs.get(other.json["id"]), machine)
    assert (await mine.post(f"/api/v1/instances/{machine.id}/stop", {})).status == 404
    assert (await web.store.instances.get(machine.id)).stop_asked_at is None


async def test_a_run_is_told_the_version_and_nothing_more_of_the_controller(web: WithDoor) -> None:
    assert set((await (await web.run()).get("/api/v1/status")).json) == {"version", "protocol"}


# What a run may use at all; everything else, and everything that is yet to come, is denied.
_OPEN_TO_RUNS = {
    "POST /api/v1/oidc",
    "POST /api/v1/jobs",
    "GET /api/v1/jobs",
    "GET /api/v1/jobs/{id}",
    "GET /api/v1/jobs/{id}/why",
    "GET /api/v1/jobs/{id}/log",
    "GET /api/v1/jobs/{id}/readings",
    "GET /api/v1/jobs/{id}/results",
    "GET /api/v1/jobs/{id}/results/{attempt}/files/{path}",
    "POST /api/v1/jobs/{id}/results/{attempt}/links",
    "PUT /api/v1/published/{sha256}/{name}",
    "POST /api/v1/jobs/{id}/awaited",
    "POST /api/v1/jobs/{id}/cancel",
    "GET /api/v1/instances",
    "GET /api/v1/instances/{id}",
    "POST /api/v1/instances/{id}/stop",
    "GET /api/v1/events",
    "GET /api/v1/status",
    "GET /healthz",
}


async def test_every_other_route_is_denied_to_a_run(web: WithDoor) -> None:
    """But webhooks', which have a login of their own."""
    run, routes = await web.run(), [(m, p) for m, p, _ in described() if not p.startswith("/hooks/")]
    closed = [(m, p) for m, p in routes if f"{m} {p}" not in _OPEN_TO_RUNS]
    assert len(closed) > 15
    words = {"{id}": "ci-job-1", "{sha256}": "0" * 64, "{attempt}": "1", "{path}": "x", "{name}": "x"}
    for method, path in closed:
        real = path
        for word, value in words.items():
            real = real.replace(word, value)
        answer = await run.call(method, real, _BODIES.get(f"{method} {path}", {}))
        assert answer.status == 403, (method, path, answer.status, answer.body)


# Bodies that are whole, since those that are not would be refused for that.
_BODIES: dict[str, Any] = {
    "POST /api/v1/jobs/{id}/rerun": {"id": "again"},
    "POST /api/v1/gc/runners": {"url": "https://github.com/acme/vision", "forge": "github", "older_than_s": 0},
    "POST /api/v1/tokens": {"name": "x", "role": "admin"},
    "PUT /api/v1/secrets/{name}": {"value": "secret-value"},
    "PUT /api/v1/hosts/{name}": {"address": "a", "host_keys": ["ssh-ed25519 AAAA"]},
}


async def test_a_run_launches_runners_for_its_repository_and_nothing_else(web: WithDoor) -> None:
    run = await web.run()
    command = {"id": "job-x", "spec": {"run": "true"}}
    elsewhere = wish(url="https://github.com/acme/speech")
    for body in (command, elsewhere, wish(max_lifetime_s=7201), wish(env={"A": "b"})):
        answer = await run.post("/api/v1/jobs", body)
        assert (answer.status, answer.kind) == (403, "Forbidden"), answer.body
    assert await web.store.jobs.find(phases=()) == []


async def test_what_a_budget_could_never_hold_is_refused_at_once(web: WithDoor) -> None:
    run = await web.run()
    web.policies[1] = replace(web.policies[1], budget=Budget(Decimal("0.001"), Period.DAY))
    answer = await run.post("/api/v1/jobs", wish())
    assert (answer.status, answer.kind) == (402, "OverBudget"), answer.body
    assert answer.message.startswith("one machine may cost $")
    web.policies[1] = replace(web.policies[1], budget=Budget(Decimal(50), Period.DAY))
    made = await run.post("/api/v1/jobs", wish())
    assert made.json["spec"]["origin"]["budget"] == {"usd": "50", "per": "day"}


async def test_nobody_writes_where_a_job_comes_from_but_the_controller(web: WithDoor) -> None:
    origin = {
        "repository": "x",
        "ref": "",
        "run": f"{VISION}#7.1",
        "scope": "",
        "max_instances": 99,
        "max_usd_per_hour": 99,
    }
    made = await web.control.post("/api/v1/jobs", wish("forged-1", origin=origin))
    assert made.json["spec"]["origin"] is None
    run = await web.run()
    made = await run.post("/api/v1/jobs", wish(origin=origin | {"run": "another"}))
    assert (made.json["spec"]["origin"]["run"], made.json["spec"]["origin"]["max_instances"]) == (f"{VISION}#7.1", 4)


async def test_the_way_in_is_on_the_tcp_port_alone_and_closed_where_no_policy_is(web: WithDoor, tmp_path: Path) -> None:
    body = {"token": web.token()}
    assert (await web.control.post("/api/v1/oidc", body)).status == 404
    (tmp_path / "other").mkdir()
    other = await serve(tmp_path / "other")
    answer = await Http(other.port).post("/api/v1/oidc", body)
    assert (answer.status, answer.message) == (403, "this controller lets no CI run in")
    assert (await Http(other.port, "rc_x.y").get("/api/v1/jobs")).status == 401
    await other.close()


async def test_who_knocks_without_end_does_not_fill_the_database(web: WithDoor) -> None:
    web.services.traffic.refused.extend([web.services.clock.monotonic()] * 100)
    assert (await web.exchange("junk")).status == 401
    assert await web.events("ci.refused") == []


async def test_an_endless_token_is_not_read(web: WithDoor) -> None:
    assert (await web.exchange("x" * 20_000)).status == 400
