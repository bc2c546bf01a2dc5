"""Hard limits: where a cloud can end a machine at a set time by itself, it is told to, for every machine, beside all
else.

Level-triggered and never waited for: what ought to have a limit is compared with what was given one since this process
began, and the difference is closed by calls that change nothing when repeated. Whatever a dead process left is found
among the leftovers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from provisioner.domain.abilities import HasHardLimit
from provisioner.domain.errors import ProviderError
from provisioner.domain.job import Instance, InstancePhase
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.store import Event, Store

_log = structlog.get_logger()
_LONGEST_S = 10 * 365 * 86400.0  # arbitrary: longer than any machine
_ENDING = (InstancePhase.STOPPING, InstancePhase.GONE)


@dataclass
class _Kept:
    """One instance's limit, as far as this process knows."""

    instance: Instance
    made: bool = False
    failures: int = 0
    again_s: float = 0.0
    task: asyncio.Task[None] | None = None


class Limits:
    """`turn` looks at all instances short of GONE and starts what is due."""

    def __init__(self, store: Store, clouds: Mapping[str, HasHardLimit], clock: Clock, policy: Policy) -> None:
        self._store = store
        self._clouds = clouds
        self._clock = clock
        self._policy = policy
        self._kept: dict[str, _Kept] = {}

    def turn(self, instances: Iterable[Instance]) -> None:
        if not self._clouds:
            return
        live = {one.name: one for one in instances if one.offer.provider in self._clouds}
        for name, one in live.items():
            if one.ref and one.phase not in _ENDING:
                self._kept.setdefault(name, _Kept(one)).instance = one
        for name, kept in list(self._kept.items()):
            if kept.task is not None or kept.again_s > self._clock.monotonic():
                continue
            if name not in live:
                kept.task = asyncio.create_task(self._lift(kept), name=f"lift {name}")
            elif not kept.made and live[name].phase not in _ENDING:
                kept.task = asyncio.create_task(self._limit(kept), name=f"limit {name}")

    async def _limit(self, kept: _Kept) -> None:
        one, at = kept.instance, self._reached_at(kept.instance)
        try:
            await self._clouds[one.offer.provider].limit(one.ref, one.name, one.offer.scope, at)
            kept.made, kept.failures = True, 0
        except Exception as error:  # a bug in an adapter must not end the loop that made this task
            await self._failed(kept, error)
        finally:
            kept.task = None

    def _reached_at(self, instance: Instance) -> datetime:
        """A clock that was set back since the launch has this one begin now."""
        now = self._clock.now()
        began = min(instance.launched_at or now, now)
        lives_s = min(instance.max_lifetime_s, _LONGEST_S) + self._policy.hard_limit_s
        return max(began + timedelta(seconds=lives_s), now + timedelta(seconds=self._policy.hard_limit_s))

    async def _lift(self, kept: _Kept) -> None:
        one = kept.instance
        try:
            await self._clouds[one.offer.provider].lift(one.name, one.offer.scope)
            self._kept.pop(one.name, None)
        except Exception as error:  # as above
            await self._failed(kept, error)
        finally:
            kept.task = None

    async def _failed(self, kept: _Kept, error: Exception) -> None:
        kept.failures += 1
        kept.again_s = self._clock.monotonic() + self._policy.pause_s(kept.failures - 1)
        said = error.message if isinstance(error, ProviderError) else repr(error)
        _log.warning("instance.limit_refused", instance=kept.instance.id, times=kept.failures, error=said)
        if kept.failures == 1 and not kept.made:
            now = self._clock.now()
            await self._store.records.record(Event("instance.limit_refused", now, said, instance_id=kept.instance.id))

    async def close(self) -> None:
        """End what is under way; the next process does it again."""
        tasks = [kept.task for kept in self._kept.values() if kept.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
