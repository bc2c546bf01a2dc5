"""What it came to that a cloud took a machine back: how long it had lived, what of its job's work is lost, and what is
not billed for it. Events, which the ledger's readers and `why` go by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from provisioner.domain import money
from provisioner.domain.abilities import HasEndings
from provisioner.domain.facts import AttemptReport
from provisioner.domain.job import Attempt, Instance
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.store import Event, Store

_log = structlog.get_logger()
_HOUR_S = 3600.0
_TAKEN, _LOST = "instance.interrupted", "attempt.interrupted"


class Interruptions:
    """Each of the three is called before the row that it belongs to moves, so that a crash in between repeats it."""

    def __init__(self, store: Store, endings: Mapping[str, HasEndings], clock: Clock, policy: Policy) -> None:
        self._store = store
        self._endings = endings
        self._clock = clock
        self._policy = policy

    async def taken(self, instance: Instance) -> None:
        """The instance is about to be ended because it is, or will be, taken back."""
        now = self._clock.now()
        lived_s, by_cloud = _lived_s(instance, now), await self._ended_by_cloud(instance)
        unbilled = by_cloud and lived_s < instance.offer.unbilled_if_taken_s
        live = next((a for a in await self._store.jobs.live_attempts() if a.instance_id == instance.id), None)
        event = Event(
            _TAKEN,
            now,
            f"it was taken back after {lived_s:.0f} s" + (", which are not billed" if unbilled else ""),
            job_id=live.job_id if live else instance.planned_for,
            attempt=live.number if live else 0,
            instance_id=instance.id,
            data={
                "lived_s": round(lived_s, 3),
                "first_hour": lived_s < _HOUR_S,
                "by_cloud": by_cloud,
                "unbilled": unbilled,
            },
        )
        await self._store.records.record(event)

    async def _ended_by_cloud(self, instance: Instance) -> bool:
        """As far as the cloud says so at once. Whom it has not told is billed."""
        if (cloud := self._endings.get(instance.offer.provider)) is None:
            return False
        try:
            asked = cloud.taken_back(instance.ref, instance.name, instance.offer.scope)
            return await asyncio.wait_for(asked, self._policy.console_s)
        except Exception as error:  # whatever it is, the machine is ended now
            _log.warning("instance.end_not_explained", instance=instance.id, error=repr(error))
            return False

    async def lost(self, attempt: Attempt, instance: Instance, told: AttemptReport | None) -> None:
        """The attempt is about to end because its machine was taken back. What counts as lost is its work since its
        newest complete checkpoint."""
        now = self._clock.now()
        taken = await self._event(instance, _TAKEN)
        lived_s = float(taken.data["lived_s"]) if taken else _lived_s(instance, now)
        lost_s, kept = await self._lost_s(attempt, told, taken.at if taken else now)
        since = "its newest checkpoint" if kept else "its start"
        event = Event(
            _LOST,
            now,
            f"its machine was taken back after {lived_s:.0f} s; lost: {lost_s:.0f} s of work since {since}",
            attempt.job_id,
            attempt.number,
            instance.id,
            {"lived_s": round(lived_s, 3), "first_hour": lived_s < _HOUR_S, "lost_s": round(lost_s, 3)},
        )
        await self._store.records.record(event)

    async def _lost_s(self, attempt: Attempt, told: AttemptReport | None, until: datetime) -> tuple[float, bool]:
        """Seconds, and whether there is a checkpoint of this attempt. A job that ended before its machine did worked
        for as long as its agent says."""
        if attempt.started_at is None:
            return 0.0, False
        if (ran_s := _ran_s(told)) is not None:
            until = min(until, attempt.started_at + timedelta(seconds=ran_s))
        rows = await self._store.records.manifests(attempt.job_id, "checkpoints")
        kept = [row.at for row in rows if row.number == attempt.number]
        since = max([attempt.started_at, *kept])
        return max(0.0, (until - since).total_seconds()), bool(kept)

    async def billed(self, instance: Instance) -> None:
        """The instance is about to be gone: if its time is not billed, what its charges come to is taken off again."""
        taken = await self._event(instance, _TAKEN)
        if taken is None or not taken.data.get("unbilled") or await self._event(instance, money.ADJUSTED):
            return
        now = self._clock.now()
        usd, unknown = money.total(await self._store.records.charges(instance_id=instance.id), now)
        why = f"taken back by the cloud within {instance.offer.unbilled_if_taken_s:.0f} s"
        data = {"usd": str(-usd), "unknown": unknown, "why": why}
        await self._store.records.record(
            Event(money.ADJUSTED, now, f"-{money.show(usd)}: {why}", "", 0, instance.id, data)
        )

    async def _event(self, instance: Instance, what: str) -> Event | None:
        events = await self._store.records.events(instance_id=instance.id)
        return next((event for event in events if event.what == what), None)


def _lived_s(instance: Instance, now: datetime) -> float:
    return max(0.0, (now - (instance.launched_at or instance.phase_at)).total_seconds())


def _ran_s(told: AttemptReport | None) -> float | None:
    timings = told.facts.get("timings") if told else None
    value = timings.get("run_s") if isinstance(timings, dict) else None
    return float(value) if isinstance(value, int | float) else None
