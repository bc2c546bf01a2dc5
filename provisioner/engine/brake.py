"""A pool whose runners end before they come, one after the other, is given time: whatever is wrong will not be put
right by more of them, and people have to see why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from provisioner.domain.errors import NotFound
from provisioner.domain.job import Job, Outcome
from provisioner.domain.policy import Policy
from provisioner.domain.pools import Pool
from provisioner.domain.ports import Clock
from provisioner.domain.store import Store

_IN_A_ROW = 3  # arbitrary
_BAD = frozenset({Outcome.FAILED, Outcome.IMPOSSIBLE, Outcome.OVER_BUDGET, Outcome.TIMED_OUT})


@dataclass
class _Brake:
    alive: set[str] = field(default_factory=set)
    bad: int = 0
    until_s: float = 0.0
    why: str = ""


class Brakes:
    """`look` at each turn; `hold` says why nothing is to be submitted for a pool now."""

    def __init__(self, store: Store, clock: Clock, policy: Policy) -> None:
        self._store = store
        self._clock = clock
        self._policy = policy
        self._brakes: dict[str, _Brake] = {}

    def submitted(self, pool: Pool, job_ids: Iterable[str]) -> None:
        """They may have ended before anybody looks again."""
        self._brakes.setdefault(pool.name, _Brake()).alive.update(job_ids)

    async def look(self, pool: Pool, alive: Sequence[Job]) -> None:
        """`alive`: the pool's jobs short of done. Those that are so no more have ended, well or badly."""
        brake = self._brakes.setdefault(pool.name, _Brake())
        now_alive = {job.id for job in alive}
        for job_id in sorted(brake.alive - now_alive):
            await self._judge(brake, job_id)
        brake.alive = now_alive

    async def _judge(self, brake: _Brake, job_id: str) -> None:
        try:
            job = await self._store.jobs.get(job_id)
        except NotFound:
            return
        if job.outcome is Outcome.SUCCEEDED:
            brake.bad, brake.until_s = 0, 0.0
        elif job.outcome in _BAD:
            brake.bad += 1
            brake.why = f"{job.id} {job.outcome}: {job.reason}"
        if brake.bad >= _IN_A_ROW and job.outcome in _BAD:
            brake.until_s = self._clock.monotonic() + self._policy.pause_s(brake.bad)

    def hold(self, pool: Pool) -> str:
        """Empty when there is no reason."""
        brake = self._brakes.get(pool.name)
        left_s = brake.until_s - self._clock.monotonic() if brake else 0.0
        if brake is None or left_s <= 0:
            return ""
        return f"the last {brake.bad} runners came to nothing ({brake.why}); again in {left_s:.0f} s"
