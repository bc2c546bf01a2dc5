"""Rows of instances: planned under the caps, claimed by lease and fence, moved along the table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, func, insert, or_, select, text, update
from sqlalchemy.exc import IntegrityError

from provisioner.domain import lifecycle
from provisioner.domain.errors import Conflict, InvalidRequest, NotFound, OverBudget, StaleWrite
from provisioner.domain.job import CiOrigin, Instance, InstancePhase, Reason
from provisioner.domain.money import show
from provisioner.domain.store import Claim

from . import codec, ledger, spending
from .schema import LIVING, instances
from .sql import Database, begins_with
from .versioned import Kept, change

_PLANNING_LOCK = 71001  # arbitrary; one planner at a time, so that caps hold
_LIVE = instances.c.phase != "gone"
_RESERVED = (
    select(instances.c.reserved_usd_per_hour, func.count()).where(LIVING).group_by(instances.c.reserved_usd_per_hour)
)
# A row that is being worked on is not due before its lease ends.
_NEXT_DUE = select(
    func.min(case((instances.c.lease_until > instances.c.due_at, instances.c.lease_until), else_=instances.c.due_at))
).where(_LIVE)
# What every pass asks is built once: building a statement takes longer than SQLite takes to answer it.
_FIND_LIVE = (
    select(instances.c.id, instances.c.version).where(_LIVE).order_by(instances.c.id.desc()).limit(bindparam("most"))
)
_FIND_IN_PHASES = (
    select(instances.c.id, instances.c.version)
    .where(instances.c.phase.in_(bindparam("phases", expanding=True)))
    .order_by(instances.c.id.desc())
    .limit(bindparam("most"))
)
_DUE_ROWS = (
    select(instances.c.id)
    .where(
        _LIVE,
        or_(instances.c.due_at <= bindparam("now"), instances.c.id.in_(bindparam("only", expanding=True))),
        instances.c.lease_until <= bindparam("clock"),
    )
    .order_by(instances.c.due_at)
    .limit(bindparam("most"))
)
_CLAIMED = {"fence": instances.c.fence + 1, "lease_holder": bindparam("holder"), "lease_until": bindparam("until")}
_CLAIM = update(instances).where(instances.c.id.in_(_DUE_ROWS)).values(_CLAIMED).returning(instances)
_CLAIM_SKIPPING = (
    update(instances)
    .where(instances.c.id.in_(_DUE_ROWS.with_for_update(skip_locked=True)))
    .values(_CLAIMED)
    .returning(instances)
)
_INSERT = insert(instances)
_PLANNED = select(instances.c.id).where(_LIVE, instances.c.planned_for == bindparam("job")).limit(1)
_SETTLE = (
    update(instances)
    .where(instances.c.id == bindparam("i"), instances.c.fence == bindparam("f"))
    .values(due_at=bindparam("d"), lease_until=0.0, lease_holder="")
)


class SqlInstances:
    """The Instances port."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.kept = Kept(database, instances, codec.instance)

    async def plan(
        self,
        instance: Instance,
        *,
        max_instances: int,
        max_usd_per_hour: Decimal,
        reserve_usd_per_hour: Decimal,
        origin: CiOrigin | None = None,
        overtime_s: float = 0.0,
    ) -> Instance:
        def work(connection: Connection) -> Instance:
            if not self._db.sqlite:
                connection.execute(text(f"select pg_advisory_xact_lock({_PLANNING_LOCK})"))
            _check_free(connection, instance)
            _check_caps(connection, "", max_instances, max_usd_per_hour, reserve_usd_per_hour)
            planned = replace(instance, reserved_usd_per_hour=reserve_usd_per_hour)
            if origin is not None:
                _check_origin(connection, origin, planned, overtime_s)
            row = codec.instance_row(planned) | {"due_at": instance.created_at.timestamp()}
            connection.execute(_INSERT, row)
            ledger.note(
                connection,
                "instance.planned",
                instance.created_at,
                str(instance.offer),
                instance_id=instance.id,
                job_id=instance.planned_for,
            )
            return planned

        try:
            return await self._db.run(work)
        except IntegrityError as error:
            raise Conflict(f"an instance is already planned for {instance.planned_for}") from error

    async def get(self, instance_id: str) -> Instance:
        def work(connection: Connection) -> list[Instance]:
            exact = or_(instances.c.id == instance_id, instances.c.name == instance_id)
            found = connection.execute(select(instances).where(exact)).mappings().all()
            if not found:
                prefix = instances.c.id.startswith(instance_id, autoescape=True)
                found = connection.execute(select(instances).where(prefix).limit(2)).mappings().all()
            return [codec.instance(row) for row in found]

        found = await self._db.run(work) if instance_id else []
        if not found:
            raise NotFound(f"no machine {instance_id!r}", hint="`runner machines -a` lists them")
        if len(found) > 1:
            raise InvalidRequest(f"{instance_id!r} could be several machines", hint="give more of the id")
        return found[0]

    async def find(self, *, phases: Collection[InstancePhase] = (), limit: int = 100_000) -> list[Instance]:
        query = _FIND_IN_PHASES if phases else _FIND_LIVE
        values = {"most": limit} | ({"phases": [str(p) for p in phases]} if phases else {})
        return await self._db.run(lambda c: self.kept.read(c, query, values))

    async def by_name(self, names: Collection[str]) -> dict[str, Instance]:
        def work(connection: Connection) -> dict[str, Instance]:
            query = select(instances).where(instances.c.name.in_(list(names)))
            return {row["name"]: codec.instance(row) for row in connection.execute(query).mappings()}

        return await self._db.run(work) if names else {}

    async def claim(
        self, holder: str, now: datetime, *, limit: int, lease_s: float, only: Collection[str] = ()
    ) -> list[Claim]:
        def work(connection: Connection) -> list[Claim]:
            clock = self._db.server_now(connection, now)
            values = {"holder": holder, "now": now.timestamp(), "clock": clock, "until": clock + lease_s}
            statement = _CLAIM if self._db.sqlite else _CLAIM_SKIPPING
            rows = connection.execute(statement, values | {"most": limit, "only": list(only)}).mappings().all()
            return [Claim(codec.instance(row), row["fence"]) for row in rows]

        return await self._db.run(work)

    async def renew(self, claims: Mapping[str, int], now: datetime, *, lease_s: float) -> None:
        if not claims:
            return
        rows = [{"i": key, "f": fence} for key, fence in claims.items()]

        def work(connection: Connection) -> None:
            until = self._db.server_now(connection, now) + lease_s
            mine = and_(instances.c.id == bindparam("i"), instances.c.fence == bindparam("f"))
            connection.execute(update(instances).where(mine).values(lease_until=until), rows)

        await self._db.run(work)

    async def settle(self, claims: Mapping[str, tuple[int, datetime]]) -> None:
        if not claims:
            return
        rows = [{"i": key, "f": fence, "d": due.timestamp()} for key, (fence, due) in claims.items()]
        await self._db.run(lambda connection: connection.execute(_SETTLE, rows) and None)

    async def due(self) -> datetime | None:
        def work(connection: Connection) -> float | None:
            due: float | None = connection.scalar(_NEXT_DUE)
            return due

        return codec.when_or_none(await self._db.run(work))

    async def advance(
        self,
        instance: Instance,
        to: InstancePhase,
        reason: Reason,
        at: datetime,
        *,
        fence: int | None = None,
        **changes: Any,
    ) -> Instance:
        lifecycle.check(lifecycle.INSTANCE, instance.phase, to, instance.id)
        changes = {"phase": to, "phase_at": at, "reason": reason, **changes}
        if to is InstancePhase.READY:
            changes["ready_at"] = at
        if to is InstancePhase.GONE:
            changes["gone_at"] = at
        changed = replace(instance, version=instance.version + 1, **changes)

        def work(connection: Connection) -> Instance:
            self._write(connection, instance, fence, {**changes, "due_at": at})
            never_launched = instance.phase is InstancePhase.PLANNED and to is InstancePhase.GONE
            if not never_launched:
                ledger.charge(connection, changed, lifecycle.CHARGED_AS[to], at)
                if to is InstancePhase.GONE:
                    spending.settle(connection, instance.id)
            ledger.note(
                connection,
                f"instance.{to}",
                at,
                str(reason) if reason.why else "",
                instance_id=instance.id,
                job_id=instance.planned_for,
            )
            return changed

        return await self._db.run(work)

    async def update(self, instance: Instance, *, fence: int | None = None, **changes: Any) -> Instance:
        def work(connection: Connection) -> Instance:
            self._write(connection, instance, fence, changes)
            return replace(instance, version=instance.version + 1, **changes)

        return await self._db.run(work)

    def _write(self, connection: Connection, instance: Instance, fence: int | None, changes: dict[str, Any]) -> None:
        held = {} if fence is None else {"fence": fence}
        change(connection, instances, instance, codec.plain(changes), **held)

    async def ask_stop(self, instance_id: str, at: datetime) -> Instance:
        instance = await self.get(instance_id)
        if instance.stop_asked_at is not None or instance.phase is InstancePhase.GONE:
            return instance

        def work(connection: Connection) -> Instance:
            self._write(connection, instance, None, {"stop_asked_at": at, "due_at": at})
            ledger.note(connection, "instance.stop_asked", at, instance_id=instance.id)
            return replace(instance, version=instance.version + 1, stop_asked_at=at)

        try:
            return await self._db.run(work)
        except StaleWrite:
            return await self.ask_stop(instance_id, at)


def _check_free(connection: Connection, instance: Instance) -> None:
    """Raises: Conflict when one is planned for its job already."""
    if instance.planned_for and connection.execute(_PLANNED, {"job": instance.planned_for}).first() is not None:
        raise Conflict(f"an instance is already planned for {instance.planned_for}")


def _check_origin(connection: Connection, origin: CiOrigin, planned: Instance, overtime_s: float) -> None:
    """Raises: OverBudget."""
    whose = f" of CI runs ({origin.scope}*)"
    caps = origin.max_instances, origin.max_usd_per_hour
    _check_caps(connection, origin.scope, *caps, planned.reserved_usd_per_hour, whose)
    if origin.budget is not None:
        spending.check(connection, origin.scope, origin.budget, planned, overtime_s, whose)


def _check_caps(
    connection: Connection, scope: str, max_instances: int, max_usd: Decimal, reserve: Decimal, whose: str = ""
) -> None:
    """Of those whose owner begins with `scope`. There are few prices, however many machines. Raises: OverBudget."""
    rows = connection.execute(_RESERVED.where(begins_with(instances.c.owner, scope)) if scope else _RESERVED)
    counts = [(int(count), Decimal(usd)) for usd, count in rows]
    live = sum(count for count, _ in counts)
    if live >= max_instances:
        raise OverBudget(f"{live} machines{whose} are live and max_instances is {max_instances}")
    reserved = sum((count * usd for count, usd in counts), Decimal(0))
    if reserved + reserve > max_usd:
        cap = f"max_usd_per_hour of {show(max_usd)}"
        raise OverBudget(f"{show(reserved)}/h is reserved{whose}; {show(reserve)}/h more would pass {cap}")
