"""The real SQLite store, in memory and on the calling thread, made once and emptied for each episode."""

from __future__ import annotations

import asyncio

from sqlalchemy import delete, insert, select, update

from provisioner.domain.job import Instance
from provisioner.store import codec
from provisioner.store.open import SqlStore, open_store
from provisioner.store.schema import instances, meta, metadata


class SimStore:
    def __init__(self) -> None:
        self.port: SqlStore = asyncio.run(open_store("sqlite://", secret_key=b"k" * 32, inline=True))

    def empty(self, seed: int) -> None:
        """Nothing in it but a controller's id that follows from the seed."""
        with self.port.database.engine.begin() as connection:
            for table in metadata.sorted_tables:
                connection.execute(delete(table))
            connection.execute(insert(meta).values(key="controller_id", value=f"c-{seed}"))
        self._forget()  # the same ids come again

    def reopen(self) -> None:
        """What opening it does for a new process: nothing was read before, and no lease of the one before holds."""
        self._forget()
        with self.port.database.engine.begin() as connection:
            connection.execute(update(instances).values(lease_until=0.0, lease_holder=""))

    def _forget(self) -> None:
        for kept in (self.port.jobs.kept, self.port.instances.kept, self.port.ci_jobs.waiting_kept):
            kept.forget()

    async def all_instances(self) -> list[Instance]:
        with self.port.database.engine.begin() as connection:
            return [codec.instance(row) for row in connection.execute(select(instances)).mappings()]
