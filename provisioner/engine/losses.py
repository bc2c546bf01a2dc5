"""Which of the CI jobs that wait are run again after a machine of ours was lost with them.

Such a one is not to be cut short in the same way a second time: the pool that serves it asks for an on-demand machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.domain.forge import CiJob
from provisioner.domain.policy import Policy
from provisioner.domain.pools import Key
from provisioner.domain.reruns import losses_before
from provisioner.domain.store import Store


class Losses:
    """A loss is on record before its rerun is asked for, so that each waiting job is looked up once."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self._store = store
        self._enough = max(1, policy.on_demand_after_interruptions)
        self._known: dict[Key, bool] = {}

    async def among(self, waiting: Sequence[CiJob]) -> frozenset[Key]:
        before, fresh = self._known, list[CiJob]()
        self._known = {}
        for job in waiting:
            if (so := before.get(job.key)) is None:
                fresh.append(job)
            else:
                self._known[job.key] = so
        if fresh:
            lost = await self._store.reruns.lost_in({job.run_id for job in fresh})
            self._known |= {job.key: losses_before(job, lost) >= self._enough for job in fresh}
        return frozenset(key for key, so in self._known.items() if so)
