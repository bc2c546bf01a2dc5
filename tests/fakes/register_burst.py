"""Agents that all ask who they are to be at about the same time, as real ones do, of a controller's `Runners` at a
forge that lets 180 be made in a minute.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from agent.link import Backoff
from provisioner.domain.errors import ForgeError
from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.job import Attempt, Instance, InstancePhase, Job, JobPhase, JobSpec, Reason, RunnerSpec
from provisioner.domain.offer import Market, Offer
from provisioner.domain.policy import Policy
from provisioner.engine.reruns import Reruns
from provisioner.engine.runners import Runners

from .counted_github import CountedForges, CountedGitHub
from .simstore import SimStore
from .virtual import SimClock, run_virtually

MOST, WITHIN_S = 180, 60.0  # Source: GitHub REST rate limits, 2026: 900 points a minute, of which each costs 5
ACME = Site(ForgeKind("github"), "https://github.com", "acme")
SPEC = JobSpec(run=(), kind="ci-runner", runner=RunnerSpec(ACME.url, "github", ("gpu",)))
_OFFER = Offer("sim", "north", "north-1", "g1", Market.SPOT, Decimal("0.36"), "t", "north", 8, 32.0, 200.0)


@dataclass
class Burst:
    """`asked_s` and `made_s` in the order of who asked first, `given_s` when the last agent had its answer; `events`
    what was told of the forge, `blocked` why nothing would be
    planned there, at each second that it would not."""

    asked_s: Sequence[float]
    made_s: Sequence[float]
    given_s: float
    most_in_a_minute: int
    refused: int
    listed: int
    events: Sequence[str]
    blocked: Sequence[str]

    @property
    def own_s(self) -> float:
        """When the last could be made at the very earliest: each as soon as it is asked for and the one that was made
        180 before it is a minute old."""
        at_s: list[float] = []
        for number, asked_s in enumerate(sorted(self.asked_s)):
            at_s.append(max(asked_s, at_s[number - MOST] + WITHIN_S) if number >= MOST else asked_s)
        return at_s[-1]

    @property
    def over_s(self) -> float:
        return max(self.made_s) - self.own_s


class _Nobody:
    def __init__(self) -> None:
        self.reports: dict[str, object] = {}
        self.poked: set[str] = set()

    def poke(self) -> None: ...
    def touch(self, instance_id: str) -> None: ...


def burst(store: SimStore, count: int, *, within_s: float = 0.0, latency_s: float = 0.3) -> Burst:
    """`count` agents, who begin to ask within so many seconds."""

    async def main() -> Burst:
        return await _Play(store, latency_s).played(count, within_s)

    return run_virtually(main())


class _Play:
    def __init__(self, store: SimStore, latency_s: float) -> None:
        store.empty(1)
        self._port: Any = store.port
        self._clock = SimClock()
        self._github = CountedGitHub(self._clock, latency_s)
        self._rng = random.Random(1)

    async def played(self, count: int, within_s: float) -> Burst:
        clock, nobody, policy = self._clock, cast("Any", _Nobody()), Policy()
        forges = CountedForges(self._github.opened())
        reruns = Reruns(self._port, forges, nobody.poke, clock, policy)
        runners = Runners(self._port, forges, nobody, nobody, clock, policy, reruns)
        asked = [await self._assigned(f"{number:05}") for number in range(count)]
        at_s = sorted(self._rng.uniform(0.0, within_s) for _ in asked)
        blocked: list[str] = []
        watching = asyncio.create_task(self._watch(runners, asked[0][0], blocked))
        await asyncio.gather(*(self._agent(runners, *one, s) for one, s in zip(asked, at_s, strict=True)))
        given_s = clock.monotonic()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await runners.close()
        told = [await self._port.records.events(what=what) for what in ("forge.trouble", "forge.answers")]
        events = [event.what for some in told for event in some]
        made_s = [self._github.made_s[f"runner-i-{job.id}"] for job, _ in asked]
        most = max(n for called, n in self._github.limits.most_in_a_minute.items() if called.startswith("POST"))
        github = self._github
        return Burst(at_s, made_s, given_s, most, github.refused, github.listed, events, blocked)

    async def _assigned(self, key: str) -> tuple[Job, Attempt]:
        now, port = self._clock.now(), self._port
        planned = Instance(
            f"i-{key}", f"runner-i-{key}", "ada", InstancePhase.PLANNED, _OFFER, now, now, planned_for=key
        )
        caps = {"max_instances": 10**6, "max_usd_per_hour": Decimal(10**6), "reserve_usd_per_hour": Decimal(0)}
        one = await port.instances.plan(planned, **caps)
        for phase in (InstancePhase.LAUNCHING, InstancePhase.BOOTING, InstancePhase.READY):
            one = await port.instances.advance(one, phase, Reason(), now)
        job = await port.jobs.submit(Job(key, "ada", SPEC, JobPhase.QUEUED, now))
        return job, await port.jobs.assign(job, one, now)

    async def _agent(self, runners: Runners, job: Job, attempt: Attempt, begins_s: float) -> None:
        """As `agent.prepare` does: again after a while, for as long as it is given none."""
        backoff = Backoff(0.2, 10.0)
        await self._clock.sleep(begins_s)
        while True:
            try:
                await runners.register(job, attempt)
                return
            except ForgeError:
                await self._clock.sleep(backoff.next())

    async def _watch(self, runners: Runners, job: Job, blocked: list[str]) -> None:
        """What rounds do of it, and whether a machine would be planned there."""
        runners.sites.remember([ACME])
        while True:
            runners.sites.turn([ACME])
            await self._clock.sleep(1.0)
            if why := runners.sites.blocked(job):
                blocked.append(why)
