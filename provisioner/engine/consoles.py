"""What a machine that never came to work printed last: asked for before its end, and kept as an event.

Best effort within a bound: a machine that costs money does not wait for it, and nothing about it can fail an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from provisioner.domain.abilities import HasConsole
from provisioner.domain.console import tail
from provisioner.domain.job import Instance, Why
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock
from provisioner.domain.store import Event, Store

_log = structlog.get_logger()
_TELLING = frozenset({Why.BOOT_TIMEOUT, Why.UNHEALTHY, Why.LOST, Why.PREEMPTED})


class Consoles:
    """`keep` is for whoever is about to end an instance for the first time."""

    def __init__(self, store: Store, consoles: Mapping[str, HasConsole], clock: Clock, policy: Policy) -> None:
        self._store = store
        self._consoles = consoles
        self._clock = clock
        self._policy = policy

    async def keep(self, instance: Instance) -> None:
        """Record the end of its console, if it failed on the way to work and there is one."""
        if instance.ready_at is not None or instance.launched_at is None or instance.reason.why not in _TELLING:
            return
        lines = tail(await self._fetched(instance))
        if not lines:
            return
        await self._store.records.record(
            Event(
                "instance.console",
                self._clock.now(),
                f"{instance.reason}; the last it printed",
                job_id=instance.planned_for,
                instance_id=instance.id,
                data={"lines": lines},
            )
        )

    async def _fetched(self, instance: Instance) -> str:
        if (cloud := self._consoles.get(instance.offer.provider)) is None:
            return ""
        try:
            asked = cloud.console(instance.ref, instance.name, instance.offer.scope)
            return await asyncio.wait_for(asked, self._policy.console_s)
        except Exception as error:  # whatever it is, the machine is ended now
            _log.warning("instance.console_not_read", instance=instance.id, error=repr(error))
            return ""
