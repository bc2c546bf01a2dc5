"""The world of one episode: a controller that is killed between any two effects, a faulty cloud, and agents.

Nothing here knows how the engine works: it is handed ports whose every call may be the last, and it is watched from
outside. What must never be is checked when it could happen and noted in `violations`; `episode` checks the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from provisioner.domain.demand import Redelivers
from provisioner.domain.errors import Conflict, ForgeError
from provisioner.domain.facts import Report
from provisioner.domain.job import AttemptPhase, Instance, InstancePhase, Job, Need, Why
from provisioner.domain.job_queue import OpensQueue
from provisioner.domain.offer import LaunchOrder, Listing, Machine, Offer
from provisioner.domain.place import Refusal
from provisioner.domain.policy import Policy
from provisioner.domain.pools import Pool
from provisioner.domain.ports import Provider, Wanted
from provisioner.domain.store import Store
from provisioner.engine import Engine
from provisioner.providers.aws.pace import Calls, Rate

from .hooked import CrashNow, Hooked, HookedStore, Life
from .paced import RATES, Meter, Paced
from .simagent import SimAgent, Troubles
from .simcloud import Faults, SimCloud, SimMachine
from .simforge import SimForge, SimForges
from .simrunner import Down
from .virtual import SimClock

POLICY = Policy(
    launch_timeout_s=60,
    boot_timeout_s=90,
    relaunch_after_s=5,
    silence_s=90,
    drain_s=40,
    runners_every_s=10,
    runner_busy_s=15,
    runner_stuck_s=40,
    rerun_within_s=900,
    terminate_again_s=10,
    list_every_s=10,
    collect_every_s=20,
    collect_min_age_s=40,
    lease_s=30,
    retry_backoff_s=2,
    retry_backoff_max_s=30,
    refused_s=20,
    refused_max_s=60,
    notice_s=25,
    collect_share=0.5,
    max_instances=3,
    max_usd_per_hour=Decimal("2.5"),
    lifetime_default_s=900,
)
_ORPHAN_S = 400.0
_ANSWERS_WITHIN_S = 30.0
_NEVER_WORKED = frozenset({Why.LAUNCH_TIMEOUT, Why.BOOT_TIMEOUT, Why.UNHEALTHY, Why.LOST})
_JUSTIFIED = frozenset({Why.STOPPED, Why.LIFETIME, Why.UNHEALTHY})


class Violation(AssertionError):
    """An invariant does not hold. `invariant` is its number in the architecture, or a word where it has none."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"invariant {invariant}: {what}")
        self.invariant = invariant


class _Blind:
    """A provider that claims to show everything at once, and does not."""

    name = "sim"
    visibility_s = 0.0

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def offers(self, need: Need) -> Sequence[Offer]:
        return await self._provider.offers(need)

    async def launch(self, order: LaunchOrder) -> Machine:
        return await self._provider.launch(order)

    async def machines(self) -> Sequence[Listing]:
        return await self._provider.machines()

    async def terminate(self, machine_ref: str, name: str, scope: str) -> None:
        await self._provider.terminate(machine_ref, name, scope)


class World:
    """`off` is a protection to do without. `reopen` is what a new process does to the store first."""

    policy = POLICY
    rates: Mapping[Calls, Rate] = RATES
    pools: Sequence[Pool] = ()
    redelivers: Mapping[str, Redelivers] = MappingProxyType({})

    def __init__(
        self,
        rng: random.Random,
        store: Store,
        reopen: Callable[[], None],
        faults: Faults,
        troubles: Troubles,
        off: str = "",
        forge: Callable[[SimClock], SimForge | None] = lambda clock: None,
    ) -> None:
        self.off = off
        self.rng = rng
        self.store = store
        self._reopen = reopen
        self.clock = SimClock()
        self.forge = forge(self.clock)
        self.cloud = SimCloud(
            self.clock,
            random.Random(rng.random()),
            faults=faults,
            idempotent=off != "launch-by-name",
            tells_ended=not off and rng.getstate()[1][1] % 2 == 0,  # drawn would change every seed's episode
            apart=off != "throttled-apart",
        )
        self.cloud.booted, self.cloud.ending = self._booted, self._ending
        self._troubles = troubles
        self.crash_chance = rng.choice((0.0, 0.0005, 0.002, 0.008))
        self._awake = asyncio.Event()
        self._awake.set()
        self.engine: Engine | None = None
        self._life: Life | None = None
        self._listening_s = 0.0
        self._heard_s: dict[str, float] = {}
        self._runs: dict[str, SimAgent] = {}
        self._agents: list[SimAgent] = []
        self._terminated_once: set[str] = set()
        self._silent_s: dict[str, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.violations: list[Violation] = []
        self.crashes = 0
        self._stepped = False
        self.failure: BaseException | None = None

    # The controller's process

    async def control(self) -> None:
        """The controller, started again whenever it is killed; ends only by its own bug."""
        while True:
            life = self._life = Life()
            self._listening_s = self.clock.monotonic()
            self.engine = self._make_engine(life)
            task = asyncio.create_task(self.process(self.engine))
            killed = asyncio.create_task(life.killed.wait())
            await asyncio.wait({task, killed}, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not life.dead:
                self.failure = task.exception()
                return
            self.engine, life.dead = None, True
            for one in (task, killed):
                one.cancel()
            await asyncio.gather(task, killed, return_exceptions=True)
            await self.clock.sleep(self.rng.choice((0.1, 2.0, 60.0)) * self.rng.random())
            self._reopen()

    async def process(self, engine: Engine) -> None:
        """What one process does."""
        await engine.run()

    def _make_engine(self, life: Life) -> Engine:
        hooked: Any = HookedStore(self, life, self.store)
        meter = Meter(self.clock, lambda what: self.violated("pace", what), self.rates)
        paced = Paced(self.cloud, self.clock, meter, off=self.off == "pace", rates=self.rates)
        provider: Any = Hooked(self, life, paced)
        engine = Engine(
            pools=self.pools,
            store=hooked,
            providers={"sim": _Blind(provider) if self.off == "visibility-grace" else provider},
            clock=self.clock,
            policy=replace(self.policy, collect_every_s=1e9) if self.off == "collector" else self.policy,
            rng=random.Random(self.rng.random()),
            config_for=self._config,
            holder="sim",
            default_providers=("sim",),
            forges=SimForges(self.forge, lambda port: Hooked(self, life, port)) if self.forge is not None else None,
            redelivers=self.redelivers,
            queues=self.queues(life),
        )
        if self.off == "listening-anew":
            engine.observed.keep_time = lambda: False  # type: ignore[method-assign]
        return engine

    def queues(self, life: Life) -> Mapping[str, OpensQueue]:
        """What pools have beside webhooks and polls."""
        return {}

    async def _config(self, instance: Instance) -> str:
        return "{}"

    async def moment(self, life: Life) -> None:
        """Between any two effects: asleep, or dead."""
        if not self._awake.is_set() and not life.dead:
            await self._awake.wait()
        if not life.dead and self.crash_chance and self.rng.random() < self.crash_chance:
            self.crashes += 1
            life.dead = True
            life.killed.set()
        if life.dead:
            raise CrashNow

    async def altered(self, name: str, call: Callable[..., Awaitable[Any]], arguments: Any, options: Any) -> Any:
        """The call itself, less what a protection that is off would have made of it."""
        if name == "plan":
            return await self._plan(call, arguments[0], options)
        if name == "advance" and arguments[1] is InstancePhase.STOPPING:
            self._silent_s[arguments[0].id] = self._silence_of(arguments[0].id)
        if name == "refuse":
            self._check_refusal(arguments[0])
        if name == "update" and self.off == "cleanup-before-replan" and "launch_calls" in options:
            options = {**options, "launch_calls": 1}
        if name == "lost" and self.off == "rerun-wish":
            return None
        if name == "known" and self.off == "remove-again":
            return set()
        if name == "remove" and self.off == "remove-again":
            with contextlib.suppress(ForgeError):
                await call(*arguments, **options)
            return None
        if name == "terminate" and self.off == "terminate-again":
            if arguments[1] in self._terminated_once:
                return None
            self._terminated_once.add(arguments[1])
        return await call(*arguments, **options)

    def _check_refusal(self, refusal: Refusal) -> None:
        """Remembered is only what the cloud has said it lacks, and what never came to work: never a full bucket."""
        said = refusal.why.partition(":")[0]
        if said not in _NEVER_WORKED and (refusal.scope, said) not in self.cloud.remembered:
            self.violated("throttled", f"{refusal.scope} is remembered as refused: {refusal.why}")

    async def _plan(self, call: Callable[..., Awaitable[Any]], instance: Instance, options: Any) -> Any:
        if self.off == "caps":
            options = {**options, "max_instances": 1000, "max_usd_per_hour": Decimal(1000)}
        planned = await call(instance, **options)
        live = await self.store.instances.find()
        rate = sum((i.offer.usd_per_hour or Decimal(0) for i in live), Decimal(0))
        if len(live) > self.policy.max_instances or rate > self.policy.max_usd_per_hour:
            self.violated("5", f"{len(live)} machines at ${rate}/h were planned")
        for earlier in await self.store.instances.find(phases=(InstancePhase.GONE,)):
            if earlier.planned_for == instance.planned_for:
                for machine in self.cloud.alive(earlier.name):
                    if not machine.late:
                        self.violated("6", f"{instance.id} planned while {machine.name} of the same job lives")
        return planned

    async def sleep(self, seconds: float) -> None:
        """The computer of the controller is suspended; the world goes on."""
        self._awake.clear()
        await self.clock.sleep(seconds)
        self._listening_s = self.clock.monotonic()
        self._awake.set()

    @property
    def aged(self) -> bool:
        """A clock set forward cannot be told from time that passed by a controller that starts after it."""
        return self._stepped and self.crashes > 0

    def step_clock(self, seconds: float) -> None:
        self._stepped |= seconds >= POLICY.lifetime_default_s
        self._listening_s = self.clock.monotonic()
        self.clock.step(seconds)

    def calm(self) -> None:
        """No more faults, but all that they led to."""
        self.crash_chance = 0.0
        self._troubles = Troubles(0, 0, 0, 0, 0, self._troubles.sequences)
        self.cloud.calm()
        if self.forge is not None:
            self.forge.calm()
        for agent in self._agents:
            agent.calm()

    # The agents

    def _booted(self, machine: SimMachine) -> None:
        if len(machines := self.cloud.launched[machine.name]) > 1:
            self.violated("2", f"{len(machines)} machines for {machine.name}")
        rng = random.Random(self.rng.random())
        agent = SimAgent(self, machine, self.clock, rng, self._troubles, _ORPHAN_S)
        self._agents.append(agent)
        task = self.spawn(agent.live(rng.uniform(0.5, 20.0), self.cloud.end))
        machine.on_end.append(lambda: task.cancel() and None)

    def began(self, agent: SimAgent, job: Job, number: int) -> None:
        other = self._runs.get(job.id)
        if other is not None and other is not agent and job.id in other.running:
            self.violated("2", f"{job.id}/{number} runs on {agent.machine.name} and on {other.machine.name}")
        self._runs[job.id] = agent

    async def register(self, job: Job, number: int) -> str:
        """What the agents' route does for an attempt that asks who it is. Raises: Down, ForgeError, Conflict."""
        await self.clock.sleep(self.rng.uniform(0.001, 0.05))
        life, engine = self._life, self.engine
        if engine is None or life is None or life.dead or not self._awake.is_set():
            raise Down
        try:
            attempt = await self.store.jobs.attempt(job.id, number)
            if attempt.phase is AttemptPhase.ENDED:
                raise Conflict("it has ended")
            return (await engine.runners.register(job, attempt)).secret
        except CrashNow:
            raise Down from None

    def over(self, agent: SimAgent, job_id: str) -> None:
        if self._runs.get(job_id) is agent:
            del self._runs[job_id]

    async def sync(self, instance_id: str, report: Report, seen: int, wait_s: float) -> Wanted:
        await self.clock.sleep(self.rng.uniform(0.001, 0.05))
        life, engine = self._life, self.engine
        if engine is None or life is None or life.dead or not self._awake.is_set():
            raise Down
        if self.off == "attempt-fence":
            report = await self._unfenced(instance_id, report)
        said = replace(report, heard_at=self.clock.now())
        engine.desk.heard(instance_id, said)
        if engine.observed.reports.get(instance_id) is said:  # not a message that was overtaken on its way
            self._heard_s[instance_id] = self.clock.monotonic()
        try:
            return await asyncio.wait_for(self._answer(engine, life, instance_id, seen, wait_s), _ANSWERS_WITHIN_S)
        except (CrashNow, TimeoutError):
            raise Down from None

    async def _answer(self, engine: Engine, life: Life, instance_id: str, seen: int, wait_s: float) -> Wanted:
        await engine.desk.wait(instance_id, seen, wait_s)
        await self.moment(life)
        return await engine.desk.wanted(instance_id)

    async def _unfenced(self, instance_id: str, report: Report) -> Report:
        """As if attempts had no numbers: what is said of any is taken for the live one."""
        live = {a.job_id: a.number for a in await self.store.jobs.live_attempts() if a.instance_id == instance_id}
        told = tuple(replace(a, number=live.get(a.job_id, a.number)) for a in report.attempts)
        return replace(report, attempts=told)

    def _ending(self, machine: SimMachine) -> None:
        agent = next((agent for agent in self._agents if agent.machine is machine), None)
        if agent is not None and agent.running and not machine.late and not machine.notice:
            self.spawn(self._check_justified(agent.instance_id, agent.running))

    def _silence_of(self, instance_id: str) -> float:
        return self.clock.monotonic() - max(self._listening_s, self._heard_s.get(instance_id, 0.0))

    async def _check_justified(self, instance_id: str, running: list[str]) -> None:
        """7: a machine at work is ended only for a reason that outweighed the work when it was decided."""
        silent_s = self._silent_s.get(instance_id, 0.0)
        why = (await self.store.instances.get(instance_id)).reason
        cancelled = [(await self.store.jobs.get(job_id)).cancel_asked_at for job_id in running]
        if why.why not in _JUSTIFIED and not all(cancelled) and silent_s < POLICY.silence_s - 1:
            self.violated("7", f"{instance_id} was ended at work, heard {silent_s:.0f} s ago: {why}")

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        """Nobody waits for it: what it was cut short by would be missed."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.violated("error", f"{task.get_coro()} ended by {error!r}", error)

    def violated(self, invariant: str, what: str, cause: BaseException | None = None) -> None:
        violation = Violation(invariant, what)
        violation.__cause__ = cause
        self.violations.append(violation)

    def unexpected(self, what: str, cause: BaseException | None) -> None:
        self.violated("error", what, cause)
