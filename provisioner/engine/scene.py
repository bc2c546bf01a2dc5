"""What one round of the engine knows of demand: live attempts, waiting jobs, and jobs about to lose their machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from provisioner.domain.facts import Demand
from provisioner.domain.job import Attempt, Instance, InstancePhase, Job, JobPhase, MarketPolicy, Need, Why
from provisioner.domain.place import unfit


def fits(tenant: str, need: Need, instance: Instance) -> bool:
    """Whether `instance` could do this work: large enough, as asked for, and never another tenant's."""
    if instance.owner != tenant or unfit(need, instance.offer) or need.image != instance.image:
        return False
    if need.market is not MarketPolicy.SPOT_FIRST and instance.offer.market != str(need.market):
        return False
    price = instance.offer.usd_per_hour
    return need.max_price is None or price is None or price <= need.max_price


@dataclass
class Scene:
    """`interrupted`: running jobs whose machine is being taken away by the cloud. `runners`: how many of each instance
    a forge has not confirmed to be gone, `at_work`: when a forge last showed one of its with a job."""

    live: list[Attempt]
    waiting: list[Job]
    interrupted: list[Job] = field(default_factory=list)
    last_busy: Mapping[str, datetime] = field(default_factory=dict)
    runners: Mapping[str, int] = field(default_factory=dict)
    at_work: Mapping[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.busy = {attempt.instance_id for attempt in self.live}
        wanting = [job for job in (*self.waiting, *self.interrupted) if job.cancel_asked_at is None]
        self._wanting = {job.id for job in wanting}
        self._needs: dict[str, list[Need]] = {}
        for job in wanting:
            if job.phase is JobPhase.QUEUED:
                needs = self._needs.setdefault(job.tenant, [])
                if job.spec.need not in needs:
                    needs.append(job.spec.need)

    def mark(self, instance: Instance) -> object:
        """Differs wherever `demand` does, and costs less; but for `at_work`, which only puts off what is due."""
        return (
            instance.id in self.busy,
            self._needs.get(instance.owner),
            instance.planned_for in self._wanting,
            self.last_busy.get(instance.id),
            self.runners.get(instance.id),
        )

    def demand(self, instance: Instance) -> Demand:
        return Demand(
            live_attempts=int(instance.id in self.busy),
            waiting=sum(fits(instance.owner, need, instance) for need in self._needs.get(instance.owner, ())),
            planned_for_waits=instance.planned_for in self._wanting,
            last_busy_at=self.last_busy.get(instance.id),
            runners=self.runners.get(instance.id, 0),
            at_work_at=self.at_work.get(instance.id),
        )


def interrupted(live: list[Attempt], instances: Mapping[str, Instance], jobs: Mapping[str, Job]) -> list[Job]:
    """Running jobs on machines whose end the cloud has announced: their next machine need not wait for it."""
    found = []
    for attempt in live:
        instance, job = instances.get(attempt.instance_id), jobs.get(attempt.job_id)
        if instance is None or job is None or job.cancel_asked_at is not None:
            continue
        if instance.phase is InstancePhase.DRAINING and instance.reason.why is Why.PREEMPTED:
            found.append(job)
    return found
