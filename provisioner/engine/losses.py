"""Which of the CI jobs that wait are run again after a machine of ours was lost with them.

Such a one is not to be cut short in the same way a second time: the pool that serves it asks for an on-demand machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.domain.forge import CiJob
from provisioner.domain.policy import Policy
from provisioner.domain.pools import Key
from provisioner.domain.reruns import Rerun, losses_before
from provisioner.domain.store import Store


class Losses:
    """A rerun may wait before its loss is on record: a person may ask for it as soon as the forge calls the job failed,
    which is before we believe that the machine is gone. So a no is good for one look."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self._store = store
        self._enough = max(1, policy.on_demand_after_interruptions)

    async def among(self, waiting: Sequence[CiJob]) -> frozenset[Key]:
        """One question for all of them; of most runs nothing was ever lost."""
        runs = {job.run_id for job in waiting if job.run_id}
        by_run: dict[str, list[Rerun]] = {}
        for rerun in await self._store.reruns.lost_in(runs) if runs else ():
            by_run.setdefault(rerun.run_id, []).append(rerun)
        again = (job for job in waiting if job.run_id in by_run)
        return frozenset(job.key for job in again if losses_before(job, by_run[job.run_id]) >= self._enough)
