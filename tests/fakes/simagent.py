"""The agent as a state machine over virtual time: it joins, runs what is wanted, reports what is, and gets cut off.

What a job does is written in its `params`: how long it runs and how it ends. Old messages arrive late and twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from provisioner.domain.facts import AttemptReport, Report
from provisioner.domain.job import Job
from provisioner.domain.ports import Clock, Wanted, WantedAttempt

from .simcloud import SimMachine
from .simforge import SimForge
from .simrunner import Down, SimRunner

_POLL_S = 25.0
_RUNNER_NEWS_S = 2.0


class Line(Protocol):
    """The way to the controller, and what the world wants to know of the agent. `sync` raises Down."""

    async def sync(self, instance_id: str, report: Report, seen: int, wait_s: float) -> Wanted: ...
    def began(self, agent: SimAgent, job: Job, number: int) -> None: ...
    def over(self, agent: SimAgent, job_id: str) -> None: ...
    async def register(self, job: Job, number: int) -> str: ...
    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]: ...
    @property
    def forge(self) -> SimForge | None: ...


@dataclass
class Troubles:
    """Chances of what befalls an agent."""

    never_boots: float = 0.03
    unhealthy: float = 0.03
    cut_off: float = 0.15
    supervisor_lost: float = 0.05
    late_message: float = 0.15
    sequences: bool = True
    cut_longest_s: float = 100.0


@dataclass
class _Running:
    """One attempt on the machine. Times are monotonic seconds; `ends_s` moves when it is cancelled."""

    job: Job
    number: int
    began_s: float
    ends_s: float
    exit_code: int | None
    why: str = ""
    cancelled: bool = False

    def report(self, now_s: float) -> AttemptReport:
        phase = "ended" if now_s >= self.ends_s else "running" if now_s > self.began_s + 2 else "setup"
        code, why = (self.exit_code, self.why) if phase == "ended" else (None, "")
        return AttemptReport(self.job.id, self.number, phase, code, why, log_size=int(now_s))


class SimAgent:
    def __init__(
        self, line: Line, machine: SimMachine, clock: Clock, rng: random.Random, troubles: Troubles, orphan_s: float
    ) -> None:
        self._line = line
        self.machine = machine
        self.instance_id = machine.order.tags["instance"]
        self._clock = clock
        self._rng = rng
        self._troubles = troubles
        self._orphan_s = orphan_s
        self._attempts: dict[tuple[str, int], _Running | SimRunner] = {}
        self._runner_tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._unhealthy = self._chance(troubles.unhealthy)
        self._sequence = 0
        self._old: list[Report] = []
        self._healed = asyncio.Event()
        self.cut_until_s = 0.0

    @property
    def running(self) -> list[str]:
        """Jobs that really run here now; a runner that only waits does not."""
        now_s = self._clock.monotonic()
        living = [a for a in self._attempts.values() if now_s < a.ends_s] if self.machine.alive else []
        return [a.job.id for a in living if not isinstance(a, SimRunner) or a.busy]

    def calm(self) -> None:
        """No more trouble, and no more of what was under way."""
        self._troubles = Troubles(0, 0, 0, 0, 0, self._troubles.sequences)
        self.cut_until_s = 0.0

    async def live(self, boot_s: float, give_up: Callable[[SimMachine], None]) -> None:
        """Until the machine ends. `give_up` ends it from inside, when the controller has been silent for too long."""
        await self._clock.sleep(boot_s)
        if self._chance(self._troubles.never_boots):
            return
        seen, heard_s = -1, self._clock.monotonic()
        while self.machine.alive:
            now_s = self._clock.monotonic()
            if self._chance(self._troubles.cut_off / 20):
                self.cut_until_s = now_s + self._rng.choice((5.0, 20.0, self._troubles.cut_longest_s))
            try:
                wanted = await self._sync(seen)
            except Down:
                if self._clock.monotonic() - heard_s > self._orphan_s:
                    give_up(self.machine)
                    return
                await self._clock.sleep(min(60.0, 1.0 + (self._clock.monotonic() - heard_s) / 4))
                continue
            heard_s, seen = self._clock.monotonic(), wanted.version
            if wanted.end:
                self._stop_everything()
                return
            self._obey(wanted)

    async def _sync(self, seen: int) -> Wanted:
        if self._clock.monotonic() < self.cut_until_s:
            raise Down
        report = self._report()
        if self._chance(self._troubles.late_message):
            self._old.append(report)
        if self._old and self._chance(0.3):
            self._later(self._old.pop(0))
        return await self._line.sync(self.instance_id, report, seen, self._next_event_s())

    def _later(self, report: Report) -> None:
        async def repeat() -> None:
            await self._clock.sleep(self._rng.uniform(0.0, 5.0))
            try:
                await self._line.sync(self.instance_id, report, -1, 0.0)
            except Down:
                return

        self._line.spawn(repeat())

    def _report(self) -> Report:
        self._sequence += 1
        now_s = self._clock.monotonic()
        return Report(
            heard_at=self._clock.now(),
            boot_id=self.machine.ref,
            healthy=not self._unhealthy,
            unhealthy_why="simulated" if self._unhealthy else "",
            drained=not self._attempts,
            notice=self.machine.notice,
            attempts=tuple(attempt.report(now_s) for attempt in self._attempts.values()),
            sequence=self._sequence if self._troubles.sequences else 0,
        )

    def _next_event_s(self) -> float:
        """How long the next answer may be held: until something of ours changes."""
        now_s = self._clock.monotonic()
        events = [at - now_s for a in self._attempts.values() for at in (a.began_s + 2.1, a.ends_s) if at > now_s]
        if any(isinstance(a, SimRunner) for a in self._attempts.values()):
            events.append(_RUNNER_NEWS_S)
        if not self.machine.notice and self.machine.order.offer.market == "spot":
            events.append(5.0)  # the notice is polled for
        return min([_POLL_S, *events]) + 0.001

    def _obey(self, wanted: Wanted) -> None:
        listed = {(w.attempt.job_id, w.attempt.number) for w in wanted.attempts}
        for one in wanted.attempts:
            self._obey_one(one)
        for key in self._attempts.keys() - listed:
            self._drop(key)

    def _obey_one(self, one: WantedAttempt) -> None:
        key = (one.attempt.job_id, one.attempt.number)
        if one.forget:
            self._drop(key)
        elif one.job is not None and key not in self._attempts:
            self._begin(one.job, key[1], refused=bool(one.cancel))
        elif one.cancel and isinstance(runner := self._attempts[key], SimRunner):
            self._stop_runner(runner, one.cancel)
        elif one.cancel:
            self._cancel(self._attempts[key], one.cancel)

    def _begin(self, job: Job, number: int, *, refused: bool) -> None:
        now_s, script = self._clock.monotonic(), job.spec.params
        if job.spec.runner is not None and not refused:
            self._begin_runner(job, number)
            return
        if refused:
            self._attempts[job.id, number] = _Running(job, number, now_s, now_s, None, "cancelled")
            return
        fails = job.failures < int(script.get("failures", "0"))
        attempt = _Running(job, number, now_s, now_s + float(script["seconds"]), 1 if fails else 0)
        if script.get("ends") == "timeout":
            attempt.exit_code, attempt.why = None, "timeout"
        elif self._chance(self._troubles.supervisor_lost):
            attempt.exit_code, attempt.why = None, "supervisor-lost"
        self._line.began(self, job, number)
        self._attempts[job.id, number] = attempt

    def _begin_runner(self, job: Job, number: int) -> None:
        assert self._line.forge is not None
        now_s = self._clock.monotonic()
        runner = SimRunner(self._line.forge, job, number, self._clock, self._rng, self._line.register, now_s)
        task = self._line.spawn(runner.live())
        self.machine.on_end += [lambda: task.cancel() and None, runner.die]
        self._runner_tasks[job.id, number] = task
        self._line.began(self, job, number)
        self._attempts[job.id, number] = runner

    def _stop_runner(self, runner: SimRunner, how: str) -> None:
        runner.notice = bool(self.machine.notice)
        runner.stop.set()
        if how == "now":
            self._runner_tasks[runner.job.id, runner.number].cancel()
            runner.die()

    def _cancel(self, attempt: _Running | SimRunner, how: str) -> None:
        assert isinstance(attempt, _Running)
        now_s = self._clock.monotonic()
        if attempt.cancelled or now_s >= attempt.ends_s:
            return
        ends_s = now_s + (0.2 if how == "now" else self._rng.uniform(0.2, 4.0))
        if ends_s < attempt.ends_s:
            attempt.ends_s, attempt.exit_code, attempt.why, attempt.cancelled = ends_s, None, "cancelled", True

    def _drop(self, key: tuple[str, int]) -> None:
        if (dropped := self._attempts.pop(key, None)) is not None:
            if isinstance(dropped, SimRunner):
                self._runner_tasks.pop(key).cancel()
                dropped.die()
            self._line.over(self, key[0])

    def _stop_everything(self) -> None:
        for key in list(self._attempts):
            self._drop(key)

    def _chance(self, chance: float) -> bool:
        return chance > 0 and self._rng.random() < chance
