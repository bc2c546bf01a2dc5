"""The agents' routes: joining, syncing, logs, and what a session does not open."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from agent import wire
from provisioner.domain.job import CheckpointSpec, InputSpec, JobSpec, Outcome, Reason, Why
from provisioner.domain.ports import Wanted, WantedAttempt
from tests.fakes.disk import open_below

from .served import OFFER, AgentClient, Http, Served


async def test_the_same_token_and_nonce_get_the_same_session(web: Served) -> None:
    instance = await web.instance()
    first, second = await web.join(instance), await web.join(instance)
    assert first == second
    assert first.session.startswith("rs_")


async def test_another_nonce_is_refused_and_recorded(web: Served) -> None:
    instance = await web.instance()
    await web.join(instance)
    message = wire.Join(instance.id, f"jt_{instance.id}", "another-nonce")
    answer = await Http(web.agents).call("POST", "/agent/v1/join", wire.encode(message))
    assert answer.status == 403
    events = await web.store.records.events(instance_id=instance.id)
    assert "instance.join_refused" in [event.what for event in events]


async def test_a_session_outlives_the_controllers_memory(web: Served) -> None:
    instance = await web.instance()
    session = (await web.join(instance)).session
    for listener in web.listeners:
        await listener.close()
    web.services = replace(web.services, ending=type(web.services.ending)())
    await web.start()
    assert (await AgentClient(web.agents, session).sync()).version == 1


@pytest.mark.parametrize("token", ["", "rs_", "rs_" + "0" * 64, "rt_x", "ü"])
async def test_a_wrong_session_opens_nothing(web: Served, token: str) -> None:
    agent = Http(web.agents, headers={"Authorization": f"Bearer {token}".encode().decode("latin-1")})
    for method, route in (
        ("POST", "sync"),
        ("POST", "log/job-a/1?offset=0"),
        ("POST", "grants"),
        ("POST", "manifest"),
        ("POST", "readings"),
        ("GET", "objects/blobs/x"),
        ("PUT", "objects/results/a/1/x"),
    ):
        assert (await agent.call(method, f"/agent/v1/{route}", b"{}")).status == 401


async def test_what_is_goes_to_the_desk(web: Served) -> None:
    agent, attempt = await web.running()
    state = wire.AttemptState(attempt.job_id, 1, "ended", exit_code=3, log_size=9, log_complete=True, facts={"a": 1})
    await agent.sync(notice="ends soon", unsent_bytes=5, attempts=[state])
    (report,) = web.desk.reports[attempt.instance_id]
    assert (report.notice, report.unsent_bytes, report.boot_id) == ("ends soon", 5, "boot")
    (told,) = report.attempts
    assert (told.phase, told.exit_code, told.log_size) == ("ended", 3, 9)
    assert told.facts == {"a": 1, "log_complete": True, "results_complete": False}


async def test_a_sync_is_held_until_something_else_is_wanted(web: Served) -> None:
    instance = await web.instance()
    agent = await web.agent(instance)
    version = (await agent.sync()).version
    held = asyncio.create_task(agent.sync(seen=version, wait_s=5.0))
    while len(web.desk.reports.get(instance.id, ())) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    web.desk.want(instance.id, Wanted(0, drain=True))
    ought = await asyncio.wait_for(held, 2)
    assert (ought.drain, ought.version) == (True, version + 1)


async def test_an_idle_sync_is_answered_after_its_time(web: Served) -> None:
    agent = await web.agent(await web.instance())
    version = (await agent.sync()).version
    began = time.monotonic()
    assert (await agent.sync(seen=version, wait_s=0.2)).version == version
    assert time.monotonic() - began >= 0.2


async def test_closing_lets_held_syncs_go_at_once(web: Served) -> None:
    instance = await web.instance()
    agent = await web.agent(instance)
    version = (await agent.sync()).version
    held = asyncio.create_task(agent.sync(seen=version, wait_s=5.0))
    while len(web.desk.reports.get(instance.id, ())) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    began = time.monotonic()
    await asyncio.gather(*(listener.close() for listener in web.listeners))
    assert (await held).version == version
    assert time.monotonic() - began < 2


async def test_an_order_is_complete_and_only_for_who_does_not_have_it(web: Served) -> None:
    spec = JobSpec(
        run=("python", "train.py"),
        setup="pip install x",
        env={"A": "1"},
        params={"LR": "0.1"},
        shell_env={"PATH": "/x"},
        secrets=("TOKEN",),
        inputs=(InputSpec("s3://b/x", "data"),),
        outputs=("*.json",),
        checkpoint=CheckpointSpec("ckpt", 60),
        timeout_s=100,
    )
    await web.store.records.put_secret("ann", "TOKEN", "hunter22")
    agent, attempt = await web.running(spec)
    (ought,) = (await agent.sync()).attempts
    order = ought.order
    assert order is not None
    assert (order.run, order.setup, order.env) == (["python", "train.py"], "pip install x", {"A": "1", "LR": "0.1"})
    assert (order.secrets, order.shell_env) == ({"TOKEN": "hunter22"}, {"PATH": "/x"})
    assert (order.inputs, order.outputs) == ([wire.InputOrder("s3://b/x", "data")], ["*.json"])
    assert (order.checkpoint_path, order.checkpoint_every_s, order.timeout_s) == ("ckpt", 60, 100)
    (ought,) = (await agent.sync(attempts=[wire.AttemptState(attempt.job_id, 1, "starting")])).attempts
    assert ought.order is None


async def test_the_callers_shell_goes_to_no_rented_machine(web: Served) -> None:
    instance = await web.instance(offer=replace(OFFER, provider="aws"))
    agent = await web.agent(instance)
    await web.assigned(await web.job(JobSpec(run="true", shell_env={"PATH": "/x"})), instance)
    (ought,) = (await agent.sync()).attempts
    assert ought.order is not None
    assert ought.order.shell_env == {}


async def test_what_has_ended_is_never_ordered_again_though_the_desk_still_wants_it(web: Served) -> None:
    """Another controller saw its end, and this one's last pass was before."""
    agent, attempt = await web.running()
    await web.store.jobs.end(attempt, Reason(Why.EXIT), web.services.clock.now(), outcome=Outcome.SUCCEEDED)
    (one,) = (await agent.sync()).attempts
    assert (one.order, one.forget) == (None, True)
    assert web.desk.pokes > 0


async def test_the_log_of_an_attempt_to_forget_is_not_kept_open(web: Served) -> None:
    agent, attempt = await web.running()
    await agent.log(attempt, 0, (wire.STDOUT, b"hello\n"))
    assert open_below(web.folder / "logs") == {"1.log", "1.idx"}
    job = await web.store.jobs.get(attempt.job_id)
    web.desk.want(attempt.instance_id, Wanted(0, (WantedAttempt(job, attempt, forget=True),)))
    assert (await agent.sync()).attempts[0].log_safe == 6
    assert open_below(web.folder / "logs") == set()
    await agent.log(attempt, 6, (wire.STDOUT, b"late\n"))
    web.desk.want(attempt.instance_id, Wanted(1, (WantedAttempt(None, attempt, forget=True),)))
    await agent.sync()
    assert open_below(web.folder / "logs") == set()


@pytest.mark.parametrize("body", [b'{"instance": "\\ud800", "token": "x", "nonce": "12345678"}', b"[" * 100_000])
async def test_a_join_that_cannot_be_decoded_is_refused(web: Served, body: bytes) -> None:
    assert (await AgentClient(web.agents).call("POST", "/agent/v1/join", body)).status == 400


async def test_no_attempt_has_so_large_a_number(web: Served) -> None:
    agent, attempt = await web.running()
    empty = wire.pack_log([], b"")
    for number in (10**9, 10**40, "9" * 5000, 0):
        answer = await agent.call("POST", f"/agent/v1/log/{attempt.job_id}/{number}?offset=0", empty)
        assert (answer.status, answer.message) == (404, "no such attempt")
    asked = {"area": "results", "job": attempt.job_id, "number": 10**9, "sequence": 1, "final": False, "files": []}
    assert (await agent.call("POST", "/agent/v1/manifest", asked)).status == 404
    assert (await agent.call("POST", "/agent/v1/manifest", {**asked, "number": 10**40})).status == 400


async def test_what_is_not_wanted_any_more_has_no_order(web: Served) -> None:
    agent, attempt = await web.running()
    web.desk.want(attempt.instance_id, Wanted(0, (WantedAttempt(None, attempt, cancel="now", forget=True),), end=True))
    answer = await agent.sync()
    assert (answer.end, answer.attempts[0].forget, answer.attempts[0].cancel) == (True, True, "now")
    assert answer.attempts[0].order is None


async def test_log_bytes_are_stored_once_and_a_gap_is_answered_with_where_to_resume(web: Served) -> None:
    agent, attempt = await web.running()
    assert (await agent.log(attempt, 0, (1, b"hello "), (2, b"world"))).json == {
        "received": 11,
        "safe": 11,
        "refused": "",
    }
    assert (await agent.log(attempt, 6, (2, b"world"), (1, b"!"))).json["received"] == 12
    assert (await agent.log(attempt, 50, (1, b"gap"))).json["received"] == 12
    (ought,) = (await agent.sync()).attempts
    assert (ought.log_received, ought.log_safe) == (12, 12)
    _, data = await web.services.logs.read(attempt.job_id, 1)
    assert data == b"hello world!"


async def test_an_ended_attempt_may_still_send_the_rest_of_its_log(web: Served) -> None:
    agent, attempt = await web.running()
    await agent.log(attempt, 0, (1, b"abc"))
    now = web.services.clock.now()
    await web.store.jobs.end(attempt, Reason(Why.LOST), now, outcome=Outcome.FAILED)
    assert (await agent.log(attempt, 3, (1, b"def"))).json["received"] == 6


async def test_another_machines_log_is_not_opened(web: Served) -> None:
    _, attempt = await web.running()
    other = await web.agent(await web.instance())
    assert (await other.log(attempt, 0, (1, b"forged"))).status == 403
    assert await web.services.logs.offsets(attempt.job_id, 1) == (0, 0)


@pytest.mark.parametrize("job", ["..", "none-such", "job%2f..", "A", "%2e%2e%2fx"])
async def test_an_unknown_log_is_not_found(web: Served, job: str) -> None:
    agent, _ = await web.running()
    answer = await agent.call("POST", f"/agent/v1/log/{job}/1?offset=0", wire.pack_log([(0, 1, 1, 0.0)], b"x"))
    assert answer.status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff" * 40,
        wire.pack_log([(0, 5, 1, 0.0)], b"xxxx"),
        wire.pack_log([(1, 4, 1, 0.0)], b"xxxx"),
        wire.pack_log([(0, 2, 1, 0.0), (3, 2, 1, 0.0)], b"xxxx"),
        wire.pack_log([(0, 4, 9, 0.0)], b"xxxx"),
        wire.pack_log([(0, 4, 1, float("nan"))], b"xxxx"),
    ],
)
async def test_a_log_whose_index_is_wrong_is_refused(web: Served, body: bytes) -> None:
    agent, attempt = await web.running()
    answer = await agent.call("POST", f"/agent/v1/log/{attempt.job_id}/1?offset=0", body)
    assert answer.status == 400
    assert await web.services.logs.offsets(attempt.job_id, 1) == (0, 0)


async def test_a_log_beyond_its_limit_is_refused_with_words(web: Served) -> None:
    agent, attempt = await web.running(JobSpec(run="true", log_limit_bytes=10))
    ack = (await agent.log(attempt, 2**20, (1, b"x" * 100))).json
    assert ack == {"received": 0, "safe": 0, "refused": "the job's log limit is reached"}


async def test_a_log_body_over_the_limit_is_refused(web: Served) -> None:
    agent, attempt = await web.running()
    assert (await agent.log(attempt, 0, (1, b"x" * (6 * 2**20)))).status == 413


async def test_readings_are_kept_by_the_controllers_clock(web: Served) -> None:
    agent, attempt = await web.running()
    message = wire.Readings(attempt.job_id, 1, [[10, {"cpu": 0.5}], [0.0, {"cpu": 0.7}]])
    await agent.call("POST", "/agent/v1/readings", wire.encode(message))
    rows = (await web.control.get(f"/api/v1/jobs/{attempt.job_id}/readings")).json
    assert [values for _, values in rows] == [{"cpu": 0.5}, {"cpu": 0.7}]


@pytest.mark.parametrize(
    "rows", [[[1]], [["x", {}]], [[-1, {}]], [[float("inf"), {}]], [[0, []]], [None], [[0, {}]] * 20_000]
)
async def test_wrong_readings_are_refused(web: Served, rows: list[list[object]]) -> None:
    agent, attempt = await web.running()
    answer = await agent.call("POST", "/agent/v1/readings", wire.encode(wire.Readings(attempt.job_id, 1, rows)))
    assert answer.status == 400


@pytest.mark.parametrize("route", ["join", "sync", "grants", "manifest", "readings"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b'"text"',
        b"{}",
        b"\xff",
        b'{"boot_id": {}}',
        b'{"job": [], "number": "x"}',
        b'{"boot_id": "b", "attempts": {"a": 1}}',
        b'{"boot_id": "b", "attempts": [3]}',
        b'{"boot_id": "b", "attempts": [{"job": "../../x", "number": 1, "phase": "running"}]}',
        b'{"boot_id": "b", "protocol": 99}',
        b'{"boot_id": "b", "attempts": [{"job": "job-a", "number": "one", "phase": "running"}]}',
        b'{"boot_id": "b", "wait_s": "long"}',
        b"[" * 50_000,
    ],
)
async def test_malformed_messages_are_refused(web: Served, route: str, body: bytes) -> None:
    agent = await web.agent(await web.instance())
    answer = await agent.call("POST", f"/agent/v1/{route}", body)
    assert answer.status == 400
    assert answer.kind == "InvalidRequest"


async def test_an_older_agent_by_one_is_served_and_a_stranger_is_not(web: Served) -> None:
    agent = await web.agent(await web.instance())
    assert (
        await agent.call("POST", "/agent/v1/sync", wire.encode(wire.Sync("b", protocol=wire.PROTOCOL - 1)))
    ).status == 200
    assert (
        await agent.call("POST", "/agent/v1/sync", wire.encode(wire.Sync("b", protocol=wire.PROTOCOL + 1)))
    ).status == 400


async def test_the_agents_socket_has_no_route_for_people(web: Served) -> None:
    agent = await web.agent(await web.instance())
    assert (await agent.get("/api/v1/jobs")).status == 404
    assert (await agent.get("/docs")).status == 404


async def test_the_tcp_port_carries_both(web: Served) -> None:
    session = (await web.join(await web.instance())).session
    assert (await AgentClient(web.port, session).sync()).version == 1
    assert (await Http(web.port, session).get("/api/v1/jobs")).status == 401
