"""Carrying out one action for one instance: the row first, then the cloud, then what the cloud answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog

from provisioner.domain.decide import Action, Advance, Launch, Terminate, Wait
from provisioner.domain.errors import NotFound, ProviderError, Rejected, StaleWrite, Throttled, Unreachable
from provisioner.domain.facts import Seen
from provisioner.domain.job import Instance, InstancePhase, JobPhase, Outcome, Reason, Why
from provisioner.domain.offer import LaunchOrder, MachineState
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Provider
from provisioner.domain.store import Event, Store

from .consoles import Consoles
from .desk import EngineDesk
from .interruptions import Interruptions
from .market import Marketplace
from .observe import Observed

_log = structlog.get_logger()
ConfigFor = Callable[[Instance], Awaitable[str]]
Launched = Callable[[Instance], Awaitable[None]]
_BEFORE_WORK = (InstancePhase.LAUNCHING, InstancePhase.BOOTING)
_BAD_OFFER = frozenset({Why.LAUNCH_TIMEOUT, Why.BOOT_TIMEOUT, Why.UNHEALTHY})
_WHY = {"NoCapacity": Why.NO_CAPACITY, "QuotaExceeded": Why.QUOTA, "Rejected": Why.REJECTED}


async def nothing_more(instance: Instance) -> None:
    """For whoever need not be told that there is a machine."""


class Actor:
    """`do` returns the instance as it is afterwards, and when to look at it again (None: at once)."""

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, Provider],
        clock: Clock,
        policy: Policy,
        observed: Observed,
        market: Marketplace,
        desk: EngineDesk,
        config_for: ConfigFor,
        launched: Launched,
        consoles: Consoles,
        interruptions: Interruptions,
    ) -> None:
        self._store = store
        self._providers = providers
        self._clock = clock
        self._policy = policy
        self._observed = observed
        self._market = market
        self._desk = desk
        self._config_for = config_for
        self._launched = launched
        self._consoles = consoles
        self._interruptions = interruptions

    async def do(self, action: Action, instance: Instance, fence: int) -> tuple[Instance, datetime | None]:
        match action:
            case Wait(until):
                return instance, until
            case Advance(to, reason):
                return await self._advance(instance, to, reason, fence), None
            case Launch():
                return await self._launch(instance, fence)
            case Terminate():
                return await self._terminate(instance, fence)

    async def _advance(self, instance: Instance, to: InstancePhase, reason: Reason, fence: int) -> Instance:
        changes = self._beside(instance, to, reason)
        if to is InstancePhase.BOOTING:
            await self._launched(instance)
        await self._note_interruption(instance, to, reason)
        moved = await self._store.instances.advance(instance, to, reason, self._clock.now(), fence=fence, **changes)
        self._desk.touch(instance.id)
        stillborn = instance.phase in _BEFORE_WORK and reason.why is Why.LOST
        if to is InstancePhase.STOPPING and (stillborn or reason.why in _BAD_OFFER):
            await self._market.disappointed(instance, str(reason))
        if reason.why is Why.SCRIPT_FAILED and to is InstancePhase.STOPPING:
            await self._fail_job(instance, reason)  # it would fail on any other machine, for money
        if to is InstancePhase.GONE:
            self._observed.forget(instance)
        return moved

    async def _note_interruption(self, instance: Instance, to: InstancePhase, reason: Reason) -> None:
        if reason.why is not Why.PREEMPTED:
            return
        if to is InstancePhase.STOPPING:
            await self._interruptions.taken(instance)
        elif to is InstancePhase.GONE:
            await self._interruptions.billed(instance)

    def _beside(self, instance: Instance, to: InstancePhase, reason: Reason) -> dict[str, Any]:
        """What a change of phase brings with it: a launch whose answer was lost is known by what the cloud shows, and
        a machine that is to be taken away makes room for its job's next one."""
        if to is InstancePhase.BOOTING and not instance.ref:
            sighting = self._observed.sighting(instance)
            ref = sighting.machine.ref if isinstance(sighting, Seen) else ""
            return {"ref": ref, "launched_at": instance.launched_at or self._clock.now()}
        if to is InstancePhase.DRAINING and reason.why is Why.PREEMPTED:
            return {"planned_for": ""}
        return {}

    async def _launch(self, instance: Instance, fence: int) -> tuple[Instance, datetime | None]:
        try:
            order = await self._order(instance)
        except ProviderError as error:
            return instance, await self._again(instance, "instance.launch_unanswered", error)
        instance = await self._store.instances.update(instance, fence=fence, launch_calls=instance.launch_calls + 1)
        provider = self._providers[instance.offer.provider]
        try:
            machine = await provider.launch(order)
        except (Throttled, Unreachable) as error:
            return instance, await self._again(instance, "instance.launch_unanswered", error)
        except ProviderError as error:
            return await self._refused(instance, error, fence), None
        changes = {"ref": machine.ref, "launched_at": self._clock.now()}
        instance = await self._store.instances.update(instance, fence=fence, **changes)
        self._observed.want(instance.offer.provider)
        if machine.state is MachineState.RUNNING:
            return await self._advance(instance, InstancePhase.BOOTING, Reason(), fence), None
        await self._launched(instance)
        return instance, self._clock.now() + timedelta(seconds=self._policy.relaunch_after_s)

    async def _order(self, instance: Instance) -> LaunchOrder:
        lifetime_s = instance.max_lifetime_s + self._policy.boot_timeout_s + self._policy.drain_s
        return LaunchOrder(
            name=instance.name,
            controller=await self._store.records.controller_id(),
            offer=instance.offer,
            owner=instance.owner,
            expires_at=instance.created_at + timedelta(seconds=lifetime_s + self._policy.deadman_bound_s),
            config=await self._config_for(instance),
            disk_gib=instance.disk_gib,
            image=instance.image,
            tags={"instance": instance.id},
            ceiling_usd_per_hour=instance.reserved_usd_per_hour,
        )

    async def _refused(self, instance: Instance, error: ProviderError, fence: int) -> Instance:
        """A plain no to the only call ever made leaves nothing behind; after a lost answer, clean up first."""
        await self._market.refused(instance, error)
        reason = Reason(_WHY.get(type(error).__name__, Why.NO_CAPACITY), error.line)
        if isinstance(error, Rejected):
            await self._fail_job(instance, reason)
        to = InstancePhase.GONE if instance.launch_calls == 1 else InstancePhase.STOPPING
        return await self._advance(instance, to, reason, fence)

    async def _fail_job(self, instance: Instance, reason: Reason) -> None:
        if not instance.planned_for:
            return
        try:
            job = await self._store.jobs.get(instance.planned_for)
            if job.phase is JobPhase.QUEUED:
                await self._store.jobs.finish(job, Outcome.FAILED, reason, self._clock.now())
        except (NotFound, StaleWrite):
            _log.info("job.not_failed", job=instance.planned_for, why="it has moved on")

    async def _terminate(self, instance: Instance, fence: int) -> tuple[Instance, datetime | None]:
        calls = instance.terminate_calls + 1
        if calls == 1:
            await self._consoles.keep(instance)
        instance = await self._store.instances.update(
            instance, fence=fence, terminate_calls=calls, terminated_at=self._clock.now()
        )
        self._desk.touch(instance.id)
        provider = self._providers[instance.offer.provider]
        try:
            await provider.terminate(instance.ref, instance.name, instance.offer.scope)
        except ProviderError as error:
            return instance, await self._again(instance, "instance.terminate_unanswered", error)
        if calls == 1:
            now = self._clock.now()
            await self._store.records.record(Event("instance.terminate_accepted", now, instance_id=instance.id))
        self._observed.want(instance.offer.provider)
        return instance, self._clock.now() + timedelta(seconds=provider.visibility_s)

    async def _again(self, instance: Instance, what: str, error: ProviderError) -> datetime:
        now = self._clock.now()
        stopping = instance.phase is InstancePhase.STOPPING
        calls = instance.terminate_calls if stopping else instance.launch_calls
        pause_s = self._policy.pause_s(calls - 1)
        if stopping:
            pause_s = min(pause_s, self._policy.terminate_again_s)
        if calls == 1:
            await self._store.records.record(Event(what, now, error.message, instance_id=instance.id))
        self._observed.want(instance.offer.provider)
        return now + timedelta(seconds=pause_s)
