"""The law of the Store port on caps of CI runs. Both databases inherit it."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest

from provisioner.domain.errors import OverBudget
from provisioner.domain.job import CiOrigin, Instance, InstancePhase
from provisioner.domain.store import Store

from .store_laws import CAPS, instance, moved


class OriginLaws:
    async def test_s6_an_origins_caps_count_what_its_scope_has(self, store: Store) -> None:
        async def plan(key: str, owner: str, origin: CiOrigin | None = None) -> Instance:
            row = dataclasses.replace(instance(key), owner=owner)
            return await store.instances.plan(row, **CAPS, origin=origin)  # type: ignore[arg-type]

        machines, money = (CiOrigin("", "", "", "ci.", *caps) for caps in ((2, Decimal(9)), (9, Decimal("1.5"))))
        await plan("i-1", "ann")
        one, _ = await plan("i-2", "ci.a", machines), await plan("i-3", "ci.b", machines)
        with pytest.raises(OverBudget, match=r"2 machines of CI runs \(ci\.\*\) are live and max_instances is 2"):
            await plan("i-4", "ci.c", machines)
        await moved(store, one, InstancePhase.GONE)
        with pytest.raises(OverBudget, match=r"\$1\.00/h is reserved of CI runs \(ci\.\*\); \$1\.00/h more would pass"):
            await plan("i-4", "ci.c", money)
        await plan("i-4", "ann")
