"""What machines that are gone have cost, by owner and period, so that no budget has to be summed from the ledger.

In: the ledger's lines of a machine, in the transaction that ends it. Out: what those under a name have spent in a day
or a month, and what their living machines can have added to it by their end.
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date
from decimal import ROUND_UP, Decimal

from sqlalchemy import Connection, Double, bindparam, case, func, select

from provisioner.domain.budget import Budget, Period, bound, by_day
from provisioner.domain.job import Instance, InstancePhase
from provisioner.domain.money import ADJUSTED

from . import codec
from .schema import LIVING, charges, events, instances, spending
from .sql import begins_with, own_insert

_NANO = Decimal(10**9)
_GONE = instances.c.phase == str(InstancePhase.GONE)
_OF_GONE = select(charges, instances.c.owner, instances.c.reserved_usd_per_hour).join(
    instances, instances.c.id == charges.c.instance_id
)
_ADJUSTED = select(events.c.at, events.c.data, instances.c.owner).join(
    instances, instances.c.id == events.c.instance_id
)
_ALL = _OF_GONE.where(_GONE), _ADJUSTED.where(_GONE, events.c.what == ADJUSTED)
_ONE = tuple(query.where(instances.c.id == bindparam("instance")) for query in _ALL)
_SPENT = select(func.sum(spending.c.nano_usd)).where(spending.c.period == bindparam("period"))
_now, _began, _over = (bindparam(name, type_=Double) for name in ("now", "began_at", "overtime"))
_launched = func.coalesce(instances.c.launched_at, _now)
_from = case((_launched < _began, _began), else_=_launched)
_end = _launched + instances.c.max_lifetime_s + _over
_BOUNDS = (
    select(instances.c.reserved_usd_per_hour, func.sum(case((_end < _now, _now), else_=_end) - _from))
    .where(LIVING)
    .group_by(instances.c.reserved_usd_per_hour)
)


_Sums = defaultdict[tuple[str, str], Decimal]


def settle(connection: Connection, instance_id: str = "") -> None:
    """Add up what one that has just gone has cost, or, for a database from before there were sums, all of them."""
    lines, adjustments = _ONE if instance_id else _ALL
    values = {"instance": instance_id} if instance_id else {}
    sums: _Sums = defaultdict(Decimal)
    for row in connection.execute(lines, values).mappings():
        for day, usd in by_day([codec.charge(row)], Decimal(row["reserved_usd_per_hour"])).items():
            _note(sums, day, row["owner"], usd)
    for row in connection.execute(adjustments, values).mappings():
        _note(sums, codec.when(row["at"]).date(), row["owner"], Decimal(json.loads(row["data"])["usd"]))
    _add(connection, sums)


def _note(sums: _Sums, day: date, owner: str, usd: Decimal) -> None:
    """A runner's machine is its alone; what it costs is its owner's."""
    for per in Period:
        sums[per.label(day), owner.partition("#")[0]] += usd


def _add(connection: Connection, sums: _Sums) -> None:
    """In the order of their keys, so that no two wait for one another."""
    if not sums:
        return
    rows = [
        {"period": period, "owner": owner, "nano_usd": int((usd * _NANO).to_integral_value(ROUND_UP))}
        for (period, owner), usd in sorted(sums.items())
    ]
    statement = own_insert(connection, spending)
    more = spending.c.nano_usd + statement.excluded.nano_usd
    connection.execute(
        statement.on_conflict_do_update(index_elements=["period", "owner"], set_={"nano_usd": more}), rows
    )


def check(
    connection: Connection, scope: str, budget: Budget, instance: Instance, overtime_s: float, whose: str
) -> None:
    """Whether another one fits, with what those whose owner begins with `scope` have spent and may still spend. What
    lives is read first: what goes in between is then counted twice rather than not at all. Raises: OverBudget."""
    now = instance.created_at
    more = bound(instance.reserved_usd_per_hour, instance.max_lifetime_s + overtime_s)
    values = {"now": now.timestamp(), "began_at": budget.per.began(now).timestamp(), "overtime": overtime_s}
    living = connection.execute(_BOUNDS.where(begins_with(instances.c.owner, scope)), values)
    reserved = sum((bound(Decimal(usd), seconds) for usd, seconds in living), Decimal(0))
    budget.check(_spent(connection, scope, budget.per.label(now.date())), reserved, more, now, whose)


def _spent(connection: Connection, scope: str, period: str) -> Decimal:
    nano_usd = connection.scalar(_SPENT.where(begins_with(spending.c.owner, scope)), {"period": period})
    return Decimal(int(nano_usd or 0)) / _NANO
