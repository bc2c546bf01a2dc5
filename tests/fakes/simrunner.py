"""One attempt that is a forge's runner, on a simulated agent: asks who it is, comes online, serves one job, is done."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from provisioner.domain.errors import Conflict, ForgeError
from provisioner.domain.facts import AttemptReport, RunnerTold
from provisioner.domain.job import Job
from provisioner.domain.ports import Clock

from .simforge import SITE, Record, SimForge

Ask = Callable[[Job, int], Awaitable[str]]


class Down(Exception):
    """The controller cannot be reached."""


@dataclass
class SimRunner:
    """`ends_s` is when it was over, in monotonic seconds; infinite before. `notice`: its machine is about to be taken
    away."""

    forge: SimForge
    job: Job
    number: int
    clock: Clock
    rng: random.Random
    ask: Ask
    began_s: float
    ends_s: float = math.inf
    exit_code: int | None = None
    why: str = ""
    record: Record | None = None
    idle_from_s: float = math.inf
    served: int = 0
    notice: bool = False
    had: dict[str, str] = field(default_factory=dict)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def busy(self) -> bool:
        return self.record is not None and self.record.job is not None

    def report(self, now_s: float) -> AttemptReport:
        ended = now_s >= self.ends_s
        phase = "ended" if ended else "running" if self.record is not None else "starting"
        code, why = (self.exit_code, self.why) if ended else (None, "")
        return AttemptReport(self.job.id, self.number, phase, code, why, log_size=int(now_s), runner=self._told(now_s))

    def _told(self, now_s: float) -> RunnerTold | None:
        if self.record is None:
            return None
        if self.record.job is not None:
            told = {"repository": SITE.path, "run": self.record.job.run, "job": "train"}
            self.had = dict(self.record.job.facts) or told
        if self.had and not self.served:  # at its end as well: it was cut short
            return RunnerTold("busy", jobs=1, job=self.had)
        phase = "done" if self.served else "waiting"
        return RunnerTold(phase, max(0.0, now_s - self.idle_from_s), self.served, self.had)

    async def live(self) -> None:
        await self.clock.sleep(self.rng.uniform(0.5, 6.0))
        if (secret := await self._secret()) is None:
            return self._over(None, "cancelled")
        self.record = self.forge.connect(secret)
        if self.record is None:
            return self._over(1, "")
        self.idle_from_s = self.clock.monotonic()
        while not self.record.given.is_set():
            if self.stop.is_set():
                self.forge.drop(self.record)
                return self._over(None, "cancelled")
            if not self.forge.is_there(self.record):
                return self._over(1, "")
            await self.clock.sleep(0.2)
        self._told(self.clock.monotonic())
        if self.record.job is None:  # thrown out at once
            return self._over(1, "")
        ends_s = self.clock.monotonic() + self.record.job.seconds
        while self.clock.monotonic() < ends_s:
            if self.stop.is_set() and self.notice:
                self.forge.drop(self.record)
                return self._over(None, "cancelled")
            await self.clock.sleep(min(0.5, ends_s - self.clock.monotonic()) + 0.001)
            if not self.busy:  # its forge has thrown it out
                return self._over(1, "")
        self.forge.finish(self.record)
        self.record.job, self.served = None, 1
        return self._over(0, "")

    async def _secret(self) -> str | None:
        """None when it is not wanted any more."""
        while not self.stop.is_set():
            try:
                return await self.ask(self.job, self.number)
            except Conflict:
                return None
            except (ForgeError, Down):
                await self.clock.sleep(self.rng.uniform(0.5, 5.0))
        return None

    def _over(self, code: int | None, why: str) -> None:
        self.ends_s, self.exit_code, self.why = self.clock.monotonic(), code, why

    def die(self) -> None:
        """Killed with its machine, or now."""
        if self.ends_s == math.inf:
            if self.record is not None:
                self.forge.drop(self.record)
            self._over(None, "cancelled")
