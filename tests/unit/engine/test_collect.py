"""What the collector would end, and its brakes (invariant 9)."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from provisioner.domain.job import Instance, InstancePhase
from provisioner.domain.offer import LaunchOrder, Machine, MachineState, Market, Offer
from provisioner.domain.policy import Policy
from provisioner.engine.collect import orphans
from tests.fakes.an_engine import an_engine
from tests.fakes.simcloud import Faults, SimCloud
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import SimClock, run_virtually

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
OFFER = Offer("sim", "north", "north-1", "g1", Market.SPOT, Decimal("0.4"), "t", "north", 8, 32.0, 200.0)
MACHINE = Machine("m-1", "runner-i-1", "c-1", "north", MachineState.RUNNING, NOW - timedelta(seconds=61))
LIVE = Instance("i-1", "runner-i-1", "ada", InstancePhase.READY, OFFER, NOW, NOW)
SEEN = frozenset({"runner-i-1"})
ALONE = {"handed-over": NOW.isoformat()}
LATE = {"expires-at": (NOW - timedelta(seconds=1)).isoformat()}


@pytest.mark.parametrize(
    ("case", "machine", "row", "seen", "expected"),
    [
        ("no row", MACHINE, None, SEEN, ["no row knows it"]),
        ("a row that is gone", MACHINE, replace(LIVE, phase=InstancePhase.GONE), SEEN, ["its row is gone"]),
        ("a live row", MACHINE, LIVE, SEEN, []),
        ("seen once", MACHINE, None, frozenset(), []),
        ("too young", replace(MACHINE, launched_at=NOW), None, SEEN, []),
        ("another controller's", replace(MACHINE, controller="c-2"), None, SEEN, []),
        ("another's, expired", replace(MACHINE, controller="c-2", tags=LATE), None, SEEN, ["past its expires-at"]),
        ("handed over", replace(MACHINE, tags=ALONE), None, SEEN, []),
        ("handed over, its row gone", replace(MACHINE, tags=ALONE), replace(LIVE, phase=InstancePhase.GONE), SEEN, []),
        ("handed over, expired", replace(MACHINE, tags=ALONE | LATE), None, SEEN, ["past its expires-at"]),
        ("expired, a live row", replace(MACHINE, tags=LATE), LIVE, SEEN, []),
        ("an unreadable date", replace(MACHINE, controller="c-2", tags={"expires-at": "soon"}), None, SEEN, []),
    ],
)
def test_orphans(case: str, machine: Machine, row: Instance | None, seen: frozenset[str], expected: list[str]) -> None:
    rows = {row.name: row} if row else {}
    found = orphans("sim", [machine], seen, {}, rows, "c-1", NOW, Policy())
    assert [orphan.why for orphan in found] == expected


def test_a_machine_from_the_future_is_old_once_it_was_seen_for_long() -> None:
    """Our clock was set back since it was launched, or is wrong."""
    machine = replace(MACHINE, launched_at=NOW + timedelta(days=1))
    for seen_for_s, expected in ((59.0, []), (61.0, ["no row knows it"])):
        found = orphans("sim", [machine], SEEN, {machine.name: seen_for_s}, {}, "c-1", NOW, Policy())
        assert [orphan.why for orphan in found] == expected


async def _fleet(clock: SimClock, cloud: SimCloud, controller: str, count: int) -> None:
    offer = cloud.offer("north", Market.ON_DEMAND)
    for n in range(count):
        expires_at = clock.now() + timedelta(days=1)
        await cloud.launch(LaunchOrder(f"runner-i-{n}", controller, offer, "ada", expires_at, "{}", 0.0))


def test_an_empty_database_does_not_kill_a_fleet_at_once() -> None:
    """Twenty machines, no rows: nothing before they were seen twice, then at most a fifth at a time."""
    store = SimStore()

    async def main() -> list[int]:
        clock = SimClock()
        cloud = SimCloud(clock, random.Random(3), faults=Faults.none())
        store.empty(1)
        await _fleet(clock, cloud, "c-1", 20)
        await clock.sleep(61)
        engine = an_engine(store.port, clock, {"sim": cloud})
        loop = asyncio.create_task(engine.run())
        left = []
        for _ in range(6):
            await clock.sleep(33)
            left.append(sum(machine.alive for machine in cloud.there))
        loop.cancel()
        await engine.collect_now()
        await clock.sleep(31)
        return [*left, sum(machine.alive for machine in cloud.there)]

    assert run_virtually(main()) == [20, 16, 16, 13, 13, 11, 0]
