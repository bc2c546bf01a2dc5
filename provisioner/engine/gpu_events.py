"""What befell the GPUs of an attempt, as its agent tells it again and again, recorded once each."""

from __future__ import annotations

from provisioner.domain.facts import AttemptReport
from provisioner.domain.job import Attempt
from provisioner.domain.ports import Clock
from provisioner.domain.store import Event, Store

_RECORDED_AS = {"xid": "gpu.xid", "thermal": "gpu.thermal"}
Kind = tuple[str, object, object]


class GpuEvents:
    """`note` with every report of an attempt. What an earlier controller recorded is read from the store, once."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, set[Kind]] = {}

    async def note(self, attempt: Attempt, told: AttemptReport) -> None:
        if not told.gpu_events:
            return
        if attempt.key not in self._known:
            self._known[attempt.key] = await self._recorded(attempt)
        known = self._known[attempt.key]
        for one in told.gpu_events:
            what = _RECORDED_AS.get(one.what)
            if what is None or (what, one.gpu, one.code) in known:
                continue
            data = {"gpu": one.gpu, "code": one.code}
            at = self._clock.now()
            await self._store.records.record(
                Event(what, at, one.message, attempt.job_id, attempt.number, attempt.instance_id, data)
            )
            known.add((what, one.gpu, one.code))

    async def _recorded(self, attempt: Attempt) -> set[Kind]:
        events = await self._store.records.events(job_id=attempt.job_id)
        mine = (event for event in events if event.attempt == attempt.number)
        return {(event.what, event.data.get("gpu"), event.data.get("code")) for event in mine}

    def forget(self, attempt: Attempt) -> None:
        self._known.pop(attempt.key, None)
