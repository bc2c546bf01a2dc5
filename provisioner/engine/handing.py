"""Handing machines over to themselves, for the command of a CI step that this controller is the own one of.

Level-triggered: the command asks until all of its machines are alone. The tag at the cloud comes before the agent is
asked, so that a machine that looks after itself is never without it.
"""

from __future__ import annotations

from collections.abc import Mapping

from provisioner.domain.abilities import HasHandOver
from provisioner.domain.errors import Conflict
from provisioner.domain.handing import Handing, acknowledged, hand_over, refusal, told
from provisioner.domain.job import Attempt, AttemptPhase, Instance, InstancePhase, Job, JobPhase, Outcome
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.runners import RunnerRow
from provisioner.domain.store import Event, Store

from .desk import EngineDesk
from .observe import Observed


class HandOvers:
    """The HandOvers port. `clouds` are those that can tag what is handed over."""

    def __init__(
        self,
        store: Store,
        clouds: Mapping[str, HasHandOver],
        observed: Observed,
        desk: EngineDesk,
        clock: Clock,
        policy: Policy,
    ) -> None:
        self._store = store
        self._clouds = clouds
        self._observed = observed
        self._desk = desk
        self._clock = clock
        self._policy = policy
        self._tagged: set[str] = set()
        self._told: set[str] = set()

    async def ask(self, job_id: str) -> Handing:
        job = await self._store.jobs.get(job_id)
        if why := refusal(job.spec):
            raise Conflict(f"{job.id} cannot be handed over: {why}", hint="it needs RUNNER_SERVER")
        if job.phase is JobPhase.DONE:
            if job.outcome is not Outcome.SUCCEEDED:
                raise Conflict(f"{job.id} {job.outcome} before it was handed over: {job.reason}")
            return Handing("over", job.id)
        found = await self._serving(job)
        if found is None:
            return Handing("waits", job.id)
        attempt, instance, row = found
        if self._is_alone(attempt, instance, job):
            await self._tell(attempt, instance)
            return told("alone", attempt, instance, row.name)
        await self._tag(instance)
        self._desk.hand_over(instance.id, hand_over(attempt, instance, job.spec, self._policy))
        return told("asked", attempt, instance, row.name)

    async def alone(self, job_id: str) -> bool:
        job = await self._store.jobs.get(job_id)
        found = await self._serving(job)
        return found is not None and self._is_alone(found[0], found[1], job)

    async def _serving(self, job: Job) -> tuple[Attempt, Instance, RunnerRow] | None:
        """The attempt whose runner its forge has seen online, on a machine that takes work."""
        attempts = [one for one in await self._store.jobs.attempts(job.id) if one.phase is not AttemptPhase.ENDED]
        rows = {one.number: one for one in await self._store.runners.of_job(job.id)}
        for attempt in attempts:
            row, instance = rows.get(attempt.number), await self._store.instances.get(attempt.instance_id)
            if row is not None and row.online_at and not row.gone_at and instance.phase is InstancePhase.READY:
                return attempt, instance, row
        return None

    def _is_alone(self, attempt: Attempt, instance: Instance, job: Job) -> bool:
        report = self._observed.reports.get(instance.id)
        asked = hand_over(attempt, instance, job.spec, self._policy)
        said = report.handed_over if report is not None else None
        return acknowledged(asked, said, instance.offer.provider)

    async def _tag(self, instance: Instance) -> None:
        if instance.id in self._tagged:
            return
        cloud = self._clouds.get(instance.offer.provider)
        if cloud is None:
            raise Conflict(
                f"machines of {instance.offer.provider} cannot be handed over", hint="it needs RUNNER_SERVER"
            )
        await cloud.hand_over(instance.ref, instance.name, instance.offer.scope)
        self._tagged.add(instance.id)

    async def _tell(self, attempt: Attempt, instance: Instance) -> None:
        if instance.id not in self._told:
            self._told.add(instance.id)
            now, text = self._clock.now(), "it looks after itself from now on"
            event = Event("instance.handed_over", now, text, attempt.job_id, attempt.number, instance.id)
            await self._store.records.record(event)
