"""One episode from a seed: users, trouble, then quiet; and what must be true when everything has come to rest."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from itertools import pairwise
from typing import TypeVar

from provisioner.domain.gpu import GpuNeed
from provisioner.domain.ids import new_id
from provisioner.domain.job import AttemptPhase, Instance, Job, JobPhase, JobSpec, MarketPolicy, Need, Outcome, Why
from provisioner.domain.money import cost

from .overheard import overheard
from .simagent import Troubles
from .simcloud import Faults
from .simforge import SimForge
from .simstore import SimStore
from .simulation import Violation, World
from .virtual import SimClock, run_virtually

_TROUBLE_S = 180.0
_PATIENCE_S, _LONG_PATIENCE_S = 3600.0, 9 * 3600.0  # where a protection is off nobody need be sure
_LATEST_LAUNCH_S = 80.0
_OFTEN = 5


C = TypeVar("C", Faults, Troubles)


@dataclass
class Tally:
    """What an episode came to."""

    seed: int
    jobs: int = 0
    attempts: int = 0
    planned: int = 0
    launched: int = 0
    crashes: int = 0
    virtual_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)


_LATE_WORDS = {"late_message": 0.6, "sequences": 0, "preempted": 0}
_LOST_WORDS = {"answer_lost": 0.3, "no_capacity": 0.3}


@dataclass(frozen=True)
class Protection:
    """What holds an invariant up. `stress` makes what it is for happen often; `seed` is an episode that breaks `breaks`
    under that stress without it, and none with it."""

    name: str
    breaks: str
    seed: int
    what: str
    stress: Mapping[str, float] = field(default_factory=dict)
    is_the_clouds: bool = False  # a law that the provider keeps: the stress itself switches it off


PROTECTIONS: tuple[Protection, ...] = (
    Protection("collector", "1", 20, "machines that no row wants are found and ended", {"late_launch": 0.3}),
    Protection(
        "terminate-again", "1", 1, "a terminate is repeated until the machine is absent", {"deaf_terminate": 0.5}
    ),
    Protection("launch-by-name", "2", 3, "the computed name makes a launch idempotent", {"answer_lost": 0.3}),
    Protection("attempt-fence", "3", 5, "an attempt's number fences off what is said of dead ones", _LATE_WORDS),
    Protection("caps", "5", 46, "a plan is made and counted in one transaction"),
    Protection("visibility-grace", "6", 0, "absence is believed only after the cloud's own delay"),
    Protection("cleanup-before-replan", "6", 5, "after a lost answer a refusal is not taken for absence", _LOST_WORDS),
    Protection(
        "complete-listings",
        "7",
        18,
        "a listing is complete or an error, never short (L3)",
        {"short_listing": 0.3},
        is_the_clouds=True,
    ),
    Protection("pace", "pace", 11, "a call waits for its token in the bucket that the cloud counts by"),
    Protection(
        "throttled-apart",
        "throttled",
        3,
        "being throttled is no lack of capacity, and is not remembered",
        {"throttled": 0.3},
    ),
    Protection(
        "listening-anew",
        "6",
        7,
        "after a sleep or a clock jump nothing from before counts",
        {"stepped": 1, "suspended": 1},
    ),
)


def episode(
    seed: int,
    *,
    off: str = "",
    stress: Mapping[str, float] | None = None,
    store: SimStore | None = None,
    kind: type[Episode] | None = None,
) -> Tally:
    """Raises: Violation. `off` names a protection to do without; `stress` sets chances of faults and troubles, and
    `stepped` and `suspended`."""
    store = store or SimStore()
    store.empty(seed)
    it = (kind or Episode)(seed, store, off, stress or {})
    with overheard(it.unexpected):
        return run_virtually(it.run())


class Episode:
    """Its users submit commands. What another kind of user does, and what must hold then, is for those below to say."""

    def __init__(self, seed: int, store: SimStore, off: str, stress: Mapping[str, float]) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._store = store
        self._off = off
        self._stress = dict(stress)

    async def run(self) -> Tally:
        rng = self._rng
        faults = _stressed(_faults(rng), self._stress)
        sequences = rng.random() < 0.5 and self._stress.get("sequences", 1.0) > 0
        troubles = _stressed(Troubles(sequences=sequences), self._stress)
        world = self._world = World(
            rng, self._store.port, self._store.reopen, faults, troubles, self._off, self.forge_of
        )
        self.begin()
        control = world.spawn(world.control())
        for _ in range(rng.choice((1, 2, 2, 3, 4))):
            world.spawn(self.user())
        if rng.random() < self._stress.get("stepped", 0.4):
            world.spawn(self._step_clock())
        if rng.random() < self._stress.get("suspended", 0.2):
            world.spawn(self._suspend())
        await world.clock.sleep(_TROUBLE_S)
        world.calm()
        await self._rest()
        control.cancel()
        return await self._checked()

    def unexpected(self, what: str, cause: BaseException | None) -> None:
        self._world.unexpected(what, cause)

    # What people do

    def forge_of(self, clock: SimClock) -> SimForge | None:
        return None

    def begin(self) -> None:
        return

    async def user(self) -> None:
        rng, clock = self._rng, self._world.clock
        await clock.sleep(rng.uniform(0.0, 60.0))
        job = _job(rng, clock.now())
        await self._store.port.jobs.submit(job)
        self.poke()
        if rng.random() < 0.25:
            await clock.sleep(rng.uniform(0.0, 90.0))
            await self._store.port.jobs.ask_cancel(job.id, clock.now(), now=rng.random() < 0.3)
            self.poke()
        if rng.random() < 0.1:
            await clock.sleep(rng.uniform(0.0, 60.0))
            for instance in (await self._store.port.instances.find())[:1]:
                await self._store.port.instances.ask_stop(instance.id, clock.now())
            self.poke()

    def poke(self) -> None:
        if (engine := self._world.engine) is not None:
            engine.desk.poke()

    async def _step_clock(self) -> None:
        await self._world.clock.sleep(self._rng.uniform(10.0, _TROUBLE_S))
        self._world.step_clock(self._rng.choice((-86400.0, -3600.0, -20.0, -3.0, 3.0, 60.0, 3600.0, 86400.0)))

    async def _suspend(self) -> None:
        await self._world.clock.sleep(self._rng.uniform(10.0, _TROUBLE_S - 1))
        await self._world.sleep(self._rng.choice((60.0, 600.0, 8 * 3600.0)))

    # Coming to rest

    async def _rest(self) -> None:
        """Until nothing is left to do, and for as long as a launch could still be under way."""
        clock = self._world.clock
        until_s = clock.monotonic() + (_PATIENCE_S if self._world.off else _LONG_PATIENCE_S)
        await clock.sleep(_LATEST_LAUNCH_S)
        while not self._world.violations and (left := await self.left()):
            if self._world.failure is not None:
                raise Violation("loop", repr(self._world.failure)) from self._world.failure
            if clock.monotonic() > until_s:
                raise Violation("1", f"it never comes to rest: {left}")
            await clock.sleep(10.0)

    async def left(self) -> str:
        """What is not at rest yet: machines first, which cost least to look at."""
        if machines := [machine.name for machine in self._world.cloud.there]:
            return "; ".join(machines)
        jobs = await self._store.port.jobs.find(limit=1000)
        waiting = [f"{job.id} {job.phase} {job.reason}" for job in jobs if job.phase is not JobPhase.DONE]
        instances = [f"{i.id} {i.phase} {i.reason}" for i in await self._store.port.instances.find()]
        return "; ".join([*waiting, *instances])

    # What must be true then

    async def _checked(self) -> Tally:
        world, store = self._world, self._store.port
        if world.violations:
            raise world.violations[0]
        rows = await self._store.all_instances()
        names = {row.name for row in rows}
        for name, machines in world.cloud.launched.items():
            if name not in names:
                raise Violation("1", f"{name} was launched and no row knows it")
            if len(machines) > 1:
                raise Violation("2", f"{len(machines)} machines were launched as {name}")
        tally = Tally(self._seed, crashes=world.crashes, virtual_s=world.clock.monotonic(), planned=len(rows))
        tally.launched = sum(len(machines) for machines in world.cloud.launched.values())
        for job in await store.jobs.find(limit=1000):
            await self.check_job(job, tally)
        for row in rows:
            await self._check_charges(row)
        for event in await store.records.events(limit=100_000):
            if event.what == "instance.stumbled":
                raise Violation("loop", event.message)
        await self.check(tally)
        return tally

    async def check(self, tally: Tally) -> None:
        return

    async def check_job(self, job: Job, tally: Tally) -> None:
        attempts = await self._store.port.jobs.attempts(job.id)
        tally.jobs += 1
        tally.attempts += len(attempts)
        tally.outcomes[str(job.outcome)] += 1
        if any(attempt.phase is not AttemptPhase.ENDED for attempt in attempts):
            raise Violation("2", f"{job.id} is done and an attempt of it lives")
        expected = _expected(job)
        accidents = sum(a.reason.why in (Why.LOST, Why.SUPERVISOR_LOST) for a in attempts)
        if job.outcome is Outcome.FAILED:
            rejected = job.reason.why is Why.REJECTED and "Rejected" in self._world.cloud.refused.values()
            outlived = job.reason.why is Why.LIFETIME and (job.spec.max_lifetime_s is not None or self._world.aged)
            if rejected or outlived or accidents >= _OFTEN:
                return
        if job.outcome not in expected:
            raise Violation("3", f"{job.id} ended {job.outcome} ({job.reason}), not {' or '.join(sorted(expected))}")
        fails, ended_old = int(job.spec.params["failures"]), sum(a.reason.why is Why.LIFETIME for a in attempts)
        if job.outcome is Outcome.SUCCEEDED and not fails <= job.failures <= fails + ended_old:
            raise Violation("3", f"{job.id} failed {job.failures} times, not {fails}")

    async def _check_charges(self, row: Instance) -> None:
        """5: each second from the launch to the end is on exactly one line."""
        charges = await self._store.port.records.charges(instance_id=row.id)
        total = Decimal(0)
        for before, after in pairwise(charges):
            if before.closed_at != after.opened_at:
                raise Violation("5", f"{row.id}: {before.phase} ends at {before.closed_at}, {after.opened_at} follows")
        for charge in charges:
            if charge.closed_at is None or charge.closed_at < charge.opened_at:
                raise Violation("5", f"{row.id}: {charge.phase} from {charge.opened_at} to {charge.closed_at}")
            total += cost(charge, charge.closed_at) or Decimal(0)
        if charges:
            last = charges[-1].closed_at
            whole = cost(replace(charges[0], closed_at=last), charges[0].opened_at) or Decimal(0)
            if abs(total - whole) > Decimal("0.000001"):
                raise Violation("5", f"{row.id}: its lines add up to {total}, its life to {whole}")


def _faults(rng: random.Random) -> Faults:
    """From a friendly cloud to one at its worst."""
    return rng.choice((Faults.none(), Faults(), Faults(), Faults(answer_lost=0.3, unreachable=0.2, deaf_terminate=0.5)))


def _stressed(chances: C, stress: Mapping[str, float]) -> C:
    names = {f.name for f in fields(chances)} - {"sequences"}
    return replace(chances, **{name: chance for name, chance in stress.items() if name in names})  # type: ignore[arg-type]


def _job(rng: random.Random, now: object) -> Job:
    retries = rng.choice((0, 0, 1, 2))
    script = {"seconds": str(rng.choice((1, 10, 40, 120))), "failures": str(rng.choice((0, 0, 0, 1, 2)))}
    if rng.random() < 0.05:
        script["ends"] = "timeout"
    gpu = rng.choice((None, None, "T4", "T4", "A100")) if rng.random() < 0.2 else None
    gpu = "H100" if rng.random() < 0.03 else gpu
    market = rng.choice((MarketPolicy.SPOT_FIRST, MarketPolicy.SPOT_FIRST, MarketPolicy.SPOT, MarketPolicy.ON_DEMAND))
    spec = JobSpec(
        run="simulated",
        need=Need(gpu=GpuNeed(name=gpu) if gpu else None, market=market),
        params=script,
        retries=retries,
        idle_timeout_s=rng.choice((None, None, 20.0)),
        max_lifetime_s=60.0 if rng.random() < 0.05 else None,
    )
    owner = rng.choice(("ada", "ada", "bob"))
    return Job(new_id("j", now, rng.getrandbits), owner, spec, JobPhase.QUEUED, now)  # type: ignore[arg-type]


def _expected(job: Job) -> set[Outcome]:
    """What no kill and no fault may change."""
    script, gpu = job.spec.params, job.spec.need.gpu
    if gpu is not None and gpu.name == "H100":
        end = Outcome.IMPOSSIBLE
    elif gpu is not None and gpu.name == "A100":
        end = Outcome.IMPOSSIBLE if job.spec.need.market is MarketPolicy.SPOT else Outcome.OVER_BUDGET
    elif script.get("ends") == "timeout":
        end = Outcome.TIMED_OUT
    else:
        end = Outcome.SUCCEEDED if int(script["failures"]) <= job.spec.retries else Outcome.FAILED
    return {end, Outcome.CANCELLED} if job.cancel_asked_at is not None else {end}
