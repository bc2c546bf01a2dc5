"""A step's own controller on its way out: what it says to its command, and when nobody is let in any more."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provisioner.app.compose import Controller
from provisioner.app.reach import Reach
from provisioner.app.step import Step
from provisioner.domain.facts import Unknown
from provisioner.domain.handing import Handing
from provisioner.domain.hosts import MachineKey
from provisioner.domain.job import Job, JobPhase, JobSpec
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually
from tests.unit.engine.abilities import Scene


class Doored:
    """A network of machines that are gone to; `let_in` is where, after each call."""

    def __init__(self) -> None:
        self.let_in: list[set[str]] = []

    async def admit(self, scopes: Collection[str]) -> None:
        self.let_in.append(set(scopes))


class Handings:
    """The engine's part, played."""

    def __init__(self) -> None:
        self.left: set[str] = set()

    async def ask(self, job_id: str) -> Handing:
        return Handing("alone" if job_id in self.left else "asked", job_id)

    async def alone(self, job_id: str) -> bool:
        return job_id in self.left


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


def test_the_door_is_shut_for_good_before_it_is_said_that_the_last_machine_is_alone(store: SimStore) -> None:
    async def main() -> None:
        scene, door, handings = Scene(store), Doored(), Handings()
        reach = _reach(scene, {"sim": door})
        one = await scene.instance(ready=True)
        await scene.port.hosts.keep_machine_key(one.id, MachineKey())
        for job_id in ("j-1", "j-2"):
            await scene.port.jobs.submit(Job(job_id, "ada", JobSpec(run="x"), JobPhase.QUEUED, scene.clock.now()))
        parts = {"store": scene.port, "engine": SimpleNamespace(hand_overs=handings)}
        step = Step(cast(Controller, SimpleNamespace(**parts, clouds=SimpleNamespace(reach=reach))))
        await _looked(reach)
        assert door.let_in == [{"north"}]
        handings.left.add("j-1")
        assert [(await step.ask(job_id)).state for job_id in ("j-1", "j-2")] == ["alone", "asked"]
        assert door.let_in == [{"north"}]
        handings.left.add("j-2")
        assert (await step.ask("j-2")).state == "alone"
        assert door.let_in == [{"north"}, set()]
        await scene.clock.sleep(3600.0)
        await _looked(reach)
        assert door.let_in == [{"north"}, set()]

    run_virtually(main())


def _reach(scene: Scene, providers: dict[str, Any]) -> Reach:
    shell: Any = None
    words: dict[str, Any] = {"secret": b"k", "sealing": b"k" * 32, "local": "/x"}
    return Reach(scene.port, shell, scene.clock, providers, **words, sighting=lambda _: Unknown())


async def _looked(reach: Reach) -> None:
    await reach.wanted()
    for _ in range(10):
        await asyncio.sleep(0)
