"""Hard limits: made for every machine that is there, lifted when it is gone, and in nobody's way."""

from __future__ import annotations

import asyncio

import pytest

from provisioner.domain.errors import Unreachable
from provisioner.domain.job import InstancePhase, Reason, Why
from provisioner.engine.limits import Limits
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually

from .abilities import POLICY, Cloud, Scene, later


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


async def turn(scene: Scene, limits: Limits) -> None:
    """One look, and time for what it began."""
    limits.turn(await scene.port.instances.find())
    await asyncio.sleep(0.01)


async def end(scene: Scene, to: InstancePhase) -> None:
    (one,) = await scene.port.instances.find()
    await scene.port.instances.advance(one, to, Reason(Why.IDLE), scene.clock.now())


def test_it_is_reached_fifteen_minutes_after_the_maximum_lifetime(store: SimStore) -> None:
    async def main() -> None:
        scene, cloud = Scene(store), Cloud()
        one = await scene.instance(max_lifetime_s=7200.0)
        limits = Limits(scene.port, {"sim": cloud}, scene.clock, POLICY)
        for _ in range(3):
            await turn(scene, limits)
        assert one.launched_at is not None
        assert cloud.limits == {one.name: ("m-i-1", later(one.launched_at, 7200 + 900))}
        assert cloud.calls == ["limit runner-i-1"]

    run_virtually(main())


def test_it_stays_until_the_machine_is_gone_and_then_is_lifted(store: SimStore) -> None:
    async def main() -> None:
        scene, cloud = Scene(store), Cloud()
        await scene.instance()
        limits = Limits(scene.port, {"sim": cloud}, scene.clock, POLICY)
        await turn(scene, limits)
        await end(scene, InstancePhase.STOPPING)
        await turn(scene, limits)
        assert list(cloud.limits) == ["runner-i-1"]
        await end(scene, InstancePhase.GONE)
        for _ in range(2):
            await turn(scene, limits)
        assert cloud.calls == ["limit runner-i-1", "lift runner-i-1"]

    run_virtually(main())


def test_one_without_an_id_or_on_its_way_out_is_given_none(store: SimStore) -> None:
    async def main() -> None:
        scene, cloud = Scene(store), Cloud()
        one = await scene.instance()
        await scene.port.instances.update(one, ref="")
        limits = Limits(scene.port, {"sim": cloud}, scene.clock, POLICY)
        await turn(scene, limits)
        (one,) = await scene.port.instances.find()
        await scene.port.instances.update(one, ref="m-1")
        await end(scene, InstancePhase.STOPPING)
        await turn(scene, limits)
        assert cloud.calls == []

    run_virtually(main())


def test_a_refusal_is_an_event_once_and_tried_again_with_pauses(store: SimStore) -> None:
    async def main() -> None:
        scene, cloud = Scene(store), Cloud(fails=[Unreachable("no answer"), ValueError("a bug"), Unreachable("again")])
        await scene.instance()
        limits = Limits(scene.port, {"sim": cloud}, scene.clock, POLICY)
        for _ in range(40):
            await turn(scene, limits)
            await scene.clock.sleep(0.5)
        assert [event.message for event in await scene.told("instance.limit_refused")] == ["no answer"]
        assert cloud.calls == ["limit runner-i-1"] * 4
        assert list(cloud.limits) == ["runner-i-1"]

    run_virtually(main())


def test_a_cloud_that_does_not_answer_keeps_nobody_waiting(store: SimStore) -> None:
    async def main() -> None:
        scene, cloud = Scene(store), Cloud(slow_s=600.0)
        await scene.instance()
        limits = Limits(scene.port, {"sim": cloud}, scene.clock, POLICY)
        began_s = scene.clock.monotonic()
        for _ in range(3):
            limits.turn(await scene.port.instances.find())
        assert scene.clock.monotonic() == began_s
        await asyncio.sleep(0)
        assert len(cloud.calls) == 1
        await limits.close()

    run_virtually(main())


def test_a_new_process_asks_again_and_nothing_changes(store: SimStore) -> None:
    async def main() -> None:
        scene, cloud = Scene(store), Cloud()
        await scene.instance()
        await turn(scene, Limits(scene.port, {"sim": cloud}, scene.clock, POLICY))
        before = dict(cloud.limits)
        await scene.clock.sleep(3600.0)
        await turn(scene, Limits(scene.port, {"sim": cloud}, scene.clock, POLICY))
        assert (len(cloud.calls), cloud.limits) == (2, before)

    run_virtually(main())
