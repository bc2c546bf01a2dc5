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

_GIVEN_UP = "given_up_by"


class SqlHosts:
    """The Hosts port."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def all(self) -> list[Host]:
        return [_host(name, body) for name, body in (await self._bodies()).items() if _GIVEN_UP not in body]

    async def put(self, host: Host) -> None:
        await self._write(host.name, _body(host))

    async def drop(self, name: str) -> None:
        def work(connection: Connection) -> bool:
            body = connection.scalar(select(hosts.c.body).where(hosts.c.name == name))
            connection.execute(delete(hosts).where(hosts.c.name == name))
            return body is not None and _GIVEN_UP not in json.loads(body)

        if not await self._db.run(work):
            raise NotFound(f"no host is called {name!r}", hint="`runner hosts ls` lists them")

    async def give_up(self, name: str, by: str) -> None:
        await self._write(name, {_GIVEN_UP: by})

    async def given_up(self) -> dict[str, str]:
        return {name: body[_GIVEN_UP] for name, body in (await self._bodies()).items() if _GIVEN_UP in body}

    async def _bodies(self) -> dict[str, dict[str, Any]]:
        query = select(hosts).order_by(hosts.c.name)
        return await self._db.run(lambda c: {row.name: json.loads(row.body) for row in c.execute(query)})

    async def _write(self, name: str, body: dict[str, Any]) -> None:
        def work(connection: Connection) -> None:
            text = json.dumps(body)
            if not connection.execute(update(hosts).where(hosts.c.name == name).values(body=text)).rowcount:
                connection.execute(insert(hosts).values(name=name, body=text))

        await self._db.run(work)

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
