"""The queues that forges keep for pools: those of pools whose settings ask for a scale set."""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.domain.job_queue import JobQueue, OpensQueue
from provisioner.domain.pools import Pool

from .forges import OpenForges


class _OfPool:
    """The OpensQueue port. Each time with the rights that there are then, so that a token can be changed in place."""

    def __init__(self, forges: OpenForges, pool: Pool) -> None:
        self._forges = forges
        self._pool = pool

    async def open(self) -> JobQueue:
        (site,), (label,) = self._pool.sites, self._pool.labels
        return await self._forges.open_queue(site, label, self._pool.group)


def queues(pools: Sequence[Pool], forges: OpenForges) -> dict[str, OpensQueue]:
    """By the name of the pool."""
    return {pool.name: _OfPool(forges, pool) for pool in pools if pool.scale_set}
