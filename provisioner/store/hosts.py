"""Hosts that somebody already has, and the SSH keys of machines."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from provisioner.domain.errors import Conflict, NotFound
from provisioner.domain.hosts import Host, MachineKey
from provisioner.domain.job import InstancePhase

from .schema import hosts, instances, machine_keys
from .sql import Database


class SqlHosts:
    """The Hosts port."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def all(self) -> list[Host]:
        query = select(hosts).order_by(hosts.c.name)
        return await self._db.run(lambda c: [_host(row.name, json.loads(row.body)) for row in c.execute(query)])

    async def put(self, host: Host) -> None:
        def work(connection: Connection) -> None:
            body = json.dumps(_body(host))
            if not connection.execute(update(hosts).where(hosts.c.name == host.name).values(body=body)).rowcount:
                connection.execute(insert(hosts).values(name=host.name, body=body))

        await self._db.run(work)

    async def drop(self, name: str) -> None:
        found = await self._db.run(lambda c: c.execute(delete(hosts).where(hosts.c.name == name)).rowcount)
        if not found:
            raise NotFound(f"no host is called {name!r}", hint="`runner hosts ls` lists them")

    async def machine_keys(self) -> dict[str, MachineKey]:
        query = (
            select(machine_keys)
            .join(instances, instances.c.id == machine_keys.c.instance_id)
            .where(instances.c.phase != InstancePhase.GONE)
        )
        return await self._db.run(
            lambda c: {row.instance_id: MachineKey(row.public, row.settled) for row in c.execute(query)}
        )

    async def keep_machine_key(self, instance_id: str, key: MachineKey) -> None:
        mine = machine_keys.c.instance_id == instance_id

        def work(connection: Connection) -> None:
            before = connection.execute(select(machine_keys).where(mine)).one_or_none()
            if before is None:
                values = {"instance_id": instance_id, "public": key.public, "settled": key.settled}
                connection.execute(insert(machine_keys).values(**values))
            elif before.settled and before.public != key.public:
                raise Conflict(f"{instance_id} has an SSH host key already, and this is another")
            else:
                values = {"public": key.public, "settled": key.settled or before.settled}
                connection.execute(update(machine_keys).where(mine).values(**values))

        await self._db.run(work)


def _body(host: Host) -> dict[str, Any]:
    return {
        "address": host.address,
        "port": host.port,
        "user": host.user,
        "host_keys": list(host.host_keys),
        "gpu": host.gpu,
        "slots": host.slots,
        "usd_per_hour": str(host.usd_per_hour),
        "folder": host.folder,
    }


def _host(name: str, body: dict[str, Any]) -> Host:
    kept = {**body, "host_keys": tuple(body["host_keys"]), "usd_per_hour": Decimal(body["usd_per_hour"])}
    return Host(name=name, **kept)
