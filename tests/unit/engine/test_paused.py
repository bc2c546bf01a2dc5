"""A provider whose credentials are missing: nothing is launched, what waits says why, deletes go on being tried."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from provisioner.domain.errors import Unauthorized
from provisioner.domain.job import Instance, InstancePhase, Job, JobPhase, JobSpec, Need
from tests.fakes.an_engine import an_engine
from tests.fakes.simcloud import Faults, SimCloud
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import SimClock, run_virtually

WHY = "sim is paused: no credentials"


class Locked:
    """A cloud that answers only while somebody has its keys."""

    def __init__(self, cloud: SimCloud) -> None:
        self._cloud = cloud
        self.name, self.visibility_s = cloud.name, cloud.visibility_s
        self.offers = cloud.offers
        self.open = False
        self.tried: dict[str, int] = {}

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def call(*words: Any) -> Any:
            self.tried[name] = self.tried.get(name, 0) + 1
            if not self.open:
                raise Unauthorized(WHY)
            return await getattr(self._cloud, name)(*words)

        return call


class Play:
    """An engine whose only provider is locked; it has not even come yet."""

    def __init__(self, store: SimStore) -> None:
        store.empty(1)
        self.store, self.clock = store.port, SimClock()
        self.cloud = Locked(SimCloud(self.clock, random.Random(3), faults=Faults.none()))
        self.providers: dict[str, Any] = {}
        self.engine = an_engine(
            store.port, self.clock, self.providers, paused=lambda: {} if self.cloud.open else {"sim": WHY}
        )

    async def submit(self) -> None:
        job = Job("j-1", "ada", JobSpec("true", need=Need(providers=("sim",))), JobPhase.QUEUED, self.clock.now())
        await self.store.jobs.submit(job)
        self.engine.desk.poke()

    async def lock(self, *, open: bool) -> None:
        self.cloud.open = open
        if open:
            self.engine.resume("sim")
        await self.clock.sleep(1)

    async def phases(self) -> list[InstancePhase]:
        found = await self.store.instances.find(phases=tuple(InstancePhase))
        return [one.phase for one in found]


def played(script: Callable[[Play], Coroutine[Any, Any, None]]) -> None:
    store = SimStore()

    async def main() -> None:
        play = Play(store)
        running = asyncio.create_task(play.engine.run())
        await play.clock.sleep(1)
        play.providers["sim"] = play.cloud
        await script(play)
        running.cancel()

    run_virtually(main())


def test_a_job_waits_and_says_why_in_one_sentence_and_goes_on_at_once() -> None:
    async def script(play: Play) -> None:
        await play.submit()
        await play.clock.sleep(900)
        job = await play.store.jobs.get("j-1")
        assert (job.phase, job.reason.detail) == (JobPhase.QUEUED, WHY)
        assert "launch" not in play.cloud.tried
        await play.lock(open=True)
        assert play.cloud.tried["launch"] == 1

    played(script)


def test_deletes_are_tried_all_the_while_and_succeed_once_there_are_keys() -> None:
    async def script(play: Play) -> None:
        await play.lock(open=True)
        await play.submit()
        await play.clock.sleep(30)
        await play.lock(open=False)
        (one,) = await play.store.instances.find()
        await play.store.instances.ask_stop(one.id, play.clock.now())
        play.engine.desk.poke()
        before = play.cloud.tried.get("terminate", 0)
        await play.clock.sleep(600)
        assert await play.phases() == [InstancePhase.STOPPING]
        assert play.cloud.tried["terminate"] - before > 20
        await play.lock(open=True)
        await play.clock.sleep(timedelta(minutes=2).total_seconds())
        assert InstancePhase.GONE in await play.phases()
        assert play.cloud._cloud.alive(one.name) == []

    played(script)


def test_a_pause_by_the_clouds_own_refusal_ends_when_fresh_keys_come() -> None:
    async def script(play: Play) -> None:
        play.cloud.open = True
        await play.clock.sleep(60)
        offer = (await play.cloud.offers(Need()))[0]
        now = play.clock.now()
        row = Instance("i-1", "runner-i-1", "ada", InstancePhase.PLANNED, offer, now, now)
        await play.engine.market.refused(row, Unauthorized("expired", hint="log in"))
        assert play.engine.market.paused == {"sim": "sim is paused: expired; log in"}
        play.engine.resume("sim")
        assert play.engine.market.paused == {}

    played(script)


def test_a_listing_that_goes_on_failing_is_said_once(capsys: Any) -> None:
    async def script(play: Play) -> None:
        await play.clock.sleep(600)
        assert play.cloud.tried["machines"] > 10
        await play.lock(open=True)
        await play.clock.sleep(60)
        await play.lock(open=False)
        await play.clock.sleep(600)

    played(script)
    assert capsys.readouterr().out.count("provider.not_listed") == 2
