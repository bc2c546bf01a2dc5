"""What is recorded when a machine is taken back: how long it lived, what work is lost, and what is not billed."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from provisioner.domain.errors import Unreachable
from provisioner.domain.facts import AttemptReport
from provisioner.domain.job import Attempt, InstancePhase, Reason, Why
from provisioner.domain.money import ADJUSTED
from provisioner.domain.store import ManifestRow
from provisioner.engine.interruptions import Interruptions
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually

from .abilities import POLICY, Cloud, Scene

TAKEN, LOST = "instance.interrupted", "attempt.interrupted"
ENDED = AttemptReport("j-1", 1, "ended", 9, facts={"timings": {"run_s": 40.0}})


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


async def checkpoint(scene: Scene, attempt: Attempt, sequence: int) -> None:
    row = ManifestRow(attempt.job_id, attempt.number, "checkpoints", sequence, False, scene.clock.now(), {"files": []})
    assert await scene.port.records.put_manifest(row)


def taken_after(store: SimStore, lived_s: float, cloud: Cloud) -> dict[str, Any]:
    """What is told of an idle machine."""

    async def main() -> dict[str, Any]:
        scene = Scene(store)
        one = await scene.instance(ready=True)
        await scene.clock.sleep(lived_s)
        await Interruptions(scene.port, {"sim": cloud}, scene.clock, POLICY).taken(one)
        (event,) = await scene.told(TAKEN)
        assert (event.job_id, event.instance_id) == ("j-1", "i-1")
        return {**event.data, "message": event.message}

    return run_virtually(main())


def test_taken_in_its_first_hour_by_the_cloud_itself_is_not_billed(store: SimStore) -> None:
    assert taken_after(store, 3599.0, Cloud(taken=True)) == {
        "lived_s": 3599.0,
        "first_hour": True,
        "by_cloud": True,
        "unbilled": True,
        "message": "it was taken back after 3599 s, which are not billed",
    }


def test_after_the_first_hour_it_is_billed(store: SimStore) -> None:
    told = taken_after(store, 3600.0, Cloud(taken=True))
    assert (told["first_hour"], told["by_cloud"], told["unbilled"]) == (False, True, False)


@pytest.mark.parametrize("cloud", [Cloud(), Cloud(fails=[Unreachable("no answer")]), Cloud(taken=True, slow_s=60)])
def test_what_the_cloud_has_not_said_is_billed(store: SimStore, cloud: Cloud) -> None:
    told = taken_after(store, 60.0, cloud)
    assert (told["first_hour"], told["unbilled"]) == (True, False)


def lost(store: SimStore, *, told: AttemptReport | None, checkpoints: tuple[float, ...]) -> tuple[float, str]:
    """Seconds lost of an attempt that runs for 100 s on a machine that was then taken back, and is told 60 s later."""

    async def main() -> tuple[float, str]:
        scene = Scene(store)
        one = await scene.instance(ready=True)
        attempt = await scene.running(one)
        interruptions, began_s = Interruptions(scene.port, {}, scene.clock, POLICY), scene.clock.monotonic()
        for sequence, at_s in enumerate(checkpoints):
            await scene.clock.sleep(at_s - (scene.clock.monotonic() - began_s))
            await checkpoint(scene, attempt, sequence)
        await scene.clock.sleep(100.0 - (scene.clock.monotonic() - began_s))
        await interruptions.taken(one)
        await scene.clock.sleep(60.0)
        await interruptions.lost(attempt, one, told)
        (taken,) = await scene.told(TAKEN)
        (event,) = await scene.told(LOST)
        assert (event.job_id, event.attempt, taken.job_id, taken.attempt) == ("j-1", 1, "j-1", 1)
        assert (event.data["lived_s"], event.data["first_hour"]) == (100.0, True)
        return float(event.data["lost_s"]), event.message

    return run_virtually(main())


def test_what_is_lost_is_the_work_since_the_newest_checkpoint(store: SimStore) -> None:
    seconds, message = lost(store, told=None, checkpoints=(30.0, 70.0))
    assert seconds == 30.0
    assert message == "its machine was taken back after 100 s; lost: 30 s of work since its newest checkpoint"


def test_without_a_checkpoint_all_of_it_is_lost(store: SimStore) -> None:
    seconds, message = lost(store, told=None, checkpoints=())
    assert seconds == 100.0
    assert message.endswith("lost: 100 s of work since its start")


def test_a_job_that_left_in_time_lost_nothing_that_its_last_checkpoint_has(store: SimStore) -> None:
    assert lost(store, told=ENDED, checkpoints=(30.0, 41.0))[0] == 0.0
    assert lost(store, told=ENDED, checkpoints=(30.0,))[0] == 10.0


def test_a_checkpoint_of_an_earlier_attempt_does_not_count(store: SimStore) -> None:
    async def main() -> None:
        scene = Scene(store)
        first = await scene.instance(ready=True)
        attempt = await scene.running(first)
        await checkpoint(scene, attempt, 1)
        job = await scene.port.jobs.end(attempt, Reason(Why.PREEMPTED), scene.clock.now(), counts=False)
        second = await scene.instance("i-2", ready=True, planned_for="")
        again = await scene.port.jobs.assign(job, second, scene.clock.now())
        again = await scene.port.jobs.started(again, scene.clock.now())
        await scene.clock.sleep(50.0)
        await Interruptions(scene.port, {}, scene.clock, POLICY).lost(again, second, None)
        (event,) = await scene.told(LOST)
        assert (event.attempt, event.data["lost_s"]) == (2, 50.0)

    run_virtually(main())


def test_what_is_not_billed_is_taken_off_the_charges_once_and_kept(store: SimStore) -> None:
    """$0.36 an hour for 100 s: a cent."""

    async def main() -> None:
        scene = Scene(store)
        one = await scene.instance(ready=True)
        interruptions = Interruptions(scene.port, {"sim": Cloud(taken=True)}, scene.clock, POLICY)
        await scene.clock.sleep(100.0)
        await interruptions.taken(one)
        one = await scene.port.instances.advance(one, InstancePhase.STOPPING, Reason(Why.PREEMPTED), scene.clock.now())
        for _ in range(2):
            await interruptions.billed(one)
        await scene.port.instances.advance(one, InstancePhase.GONE, Reason(Why.PREEMPTED), scene.clock.now())
        (event,) = await scene.told(ADJUSTED)
        assert (Decimal(event.data["usd"]), event.data["unknown"]) == (Decimal("-0.01"), False)
        assert event.message == "-$0.01: taken back by the cloud within 3600 s"
        later = scene.clock.now() + timedelta(days=1)
        await scene.port.records.prune(events_before=later, readings_before=later)
        assert [kept.what for kept in await scene.port.records.events()] == [ADJUSTED]

    run_virtually(main())


def test_what_is_billed_is_left_as_it_is(store: SimStore) -> None:
    async def main() -> None:
        scene = Scene(store)
        one = await scene.instance(ready=True)
        interruptions = Interruptions(scene.port, {"sim": Cloud(taken=True)}, scene.clock, POLICY)
        await interruptions.billed(one)
        await scene.clock.sleep(4000.0)
        await interruptions.taken(one)
        await interruptions.billed(one)
        assert await scene.told(ADJUSTED) == []

    run_virtually(main())
