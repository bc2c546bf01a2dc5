"""Machines of pools for CI runs: those that their policy grants, as the pool has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from provisioner.domain.job import Need
from provisioner.web.submit import again

from .test_ci import WithDoor, clock, issuer, web, wish

__all__ = ["clock", "issuer", "web"]


async def test_a_run_gets_the_machine_of_a_pool_that_its_policy_grants(web: WithDoor) -> None:
    web.policies[1] = replace(web.policies[1], pools=("small",))
    run = await web.run()
    made = await run.post("/api/v1/jobs", wish(pool="small"))
    assert made.status == 201, made.body
    job = await web.store.jobs.get("ci-job-1")
    assert (job.spec.need.cpus, job.spec.max_lifetime_s, job.spec.name) == (1, 60.0, "")
    assert again(job).need == Need()
    longer = wish("ci-job-2", pool="small", max_lifetime_s=7200.0)
    assert (await run.post("/api/v1/jobs", longer)).json["spec"]["max_lifetime_s"] == 60.0
    for number, pool in enumerate(("large", "")):
        refused = await run.post("/api/v1/jobs", wish(f"ci-other-{number}", pool=pool))
        assert (refused.status, refused.message) == (403, "the policy grants machines of its pools")


async def test_a_pool_and_a_policy_that_do_not_agree_are_said_to(web: WithDoor) -> None:
    web.policies[1] = replace(web.policies[1], pools=("small",), gpus=("T4",))
    refused = await (await web.run()).post("/api/v1/jobs", wish(pool="small"))
    said = "machines of the pool small are not granted: the policy grants no such GPU"
    assert (refused.status, refused.message) == (403, said)


@pytest.mark.parametrize(
    ("pool", "need", "said"),
    [
        ("huge", {}, "no pool is called 'huge'"),
        ("small", {"cpus": 2}, "what a machine has is said by the pool small"),
    ],
)
async def test_a_pool_that_is_not_there_or_not_alone_is_refused(
    web: WithDoor, pool: str, need: dict[str, Any], said: str
) -> None:
    run = await web.run()
    refused = await run.post("/api/v1/jobs", wish(pool=pool, need=need))
    assert (refused.status, refused.message) == (400, said)
    assert (await run.post("/api/v1/jobs", wish(pool="large"))).status == 201
