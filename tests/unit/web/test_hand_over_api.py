"""Handing over, through the web: what the engine wants goes to the agent, what the agent has goes to the engine."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from agent import wire
from provisioner.domain.errors import Conflict
from provisioner.domain.handing import HandedOver, Handing, HandOver
from provisioner.domain.ports import Wanted, WantedAttempt

from .served import Http, Served

ORDER = HandOver("j-1", 1, idle_s=600.0, lifetime_s=7050.5, job_s=3600.0, grace_s=60.0)
SAID = wire.HandOver("j-1", 1, idle_s=600.0, lifetime_s=7050.5, job_s=3600.0, grace_s=60.0)


class Handings:
    """The port, played."""

    async def ask(self, job_id: str) -> Handing:
        if job_id == "no":
            raise Conflict("no cannot be handed over: outputs cannot", hint="it needs RUNNER_SERVER")
        return Handing("alone", job_id, "runner-i-1", usd_per_hour=Decimal("1.05"), at_most_usd=Decimal("2.10"))

    async def alone(self, job_id: str) -> bool:
        return True


async def test_an_agent_is_told_and_what_it_has_on_its_disk_is_heard(web: Served) -> None:
    agent, attempt = await web.running()
    wanted = (await web.desk.wanted(attempt.instance_id)).attempts
    web.desk.want(attempt.instance_id, Wanted(0, tuple(WantedAttempt(one.job, one.attempt) for one in wanted)))
    assert (await agent.sync()).hand_over is None
    web.desk.want(attempt.instance_id, Wanted(0, wanted, hand_over=ORDER))
    assert (await agent.sync()).hand_over == SAID
    assert web.desk.reports[attempt.instance_id][-1].handed_over is None
    over = wire.HandedOver(SAID, "runner-i-1", "poweroff")
    await agent.say("sync", wire.Sync("b-1", handed_over=over), wire.Ought)
    assert web.desk.reports[attempt.instance_id][-1].handed_over == HandedOver(ORDER, "runner-i-1", "poweroff")


async def test_only_a_steps_own_controller_hands_over_and_only_through_its_socket(web: Served) -> None:
    path = "/api/v1/jobs/j-1/hand-over"
    refused = await web.control.post(path, {})
    assert (refused.status, refused.kind) == (409, "Conflict")
    for listener in web.listeners:
        await listener.close()
    web.services = replace(web.services, ending=type(web.services.ending)(), hand_overs=Handings())
    await web.start()
    told: dict[str, Any] = (await web.control.post(path, {})).json
    assert (told["state"], told["machine"], told["usd_per_hour"], told["at_most_usd"]) == (
        "alone",
        "runner-i-1",
        "1.05",
        "2.10",
    )
    no = await web.control.post("/api/v1/jobs/no/hand-over", {})
    assert (no.status, no.message) == (409, "no cannot be handed over: outputs cannot")
    for door in (await web.person("admin"), Http(web.port), Http(web.agents)):
        assert (await door.call("POST", path, {})).status == 404
