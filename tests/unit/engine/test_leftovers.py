"""What machines left behind, and the brakes on removing it (invariant 9)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from provisioner.domain.abilities import Abilities
from provisioner.domain.errors import Unreachable
from provisioner.domain.job import Instance, InstancePhase, Reason, Why
from provisioner.domain.leftover import Kind, Leftover
from provisioner.domain.policy import Policy
from provisioner.engine.leftovers import Known, Leftovers, unwanted
from tests.fakes.an_engine import an_engine
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually

from .abilities import OFFER, POLICY, Cloud, Scene

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(seconds=61)
VOLUME = Leftover(Kind.VOLUME, "vol-1", "north", "c-1", "runner-i-1", LONG_AGO)
INTERFACE = Leftover(Kind.INTERFACE, "eni-1", "north", "c-1", "runner-i-1")
GROUP = Leftover(Kind.GROUP, "sg-1", "north", "c-1")
LIVE = Instance("i-1", "runner-i-1", "ada", InstancePhase.READY, OFFER, NOW, NOW)
GONE = replace(LIVE, phase=InstancePhase.GONE, gone_at=LONG_AGO)
LATE = {"expires-at": (NOW - timedelta(seconds=1)).isoformat()}
BEFORE = frozenset({VOLUME.key, INTERFACE.key, GROUP.key})


def known(row: Instance | None = None, *, seen_s: float = 0.0, used: bool = False, before: bool = True) -> Known:
    return Known(
        {row.name: row} if row else {},
        frozenset({("sim", "north")} if used else ()),
        BEFORE if before else frozenset(),
        dict.fromkeys(BEFORE, seen_s),
    )


@pytest.mark.parametrize(
    ("case", "one", "given", "expected"),
    [
        ("no row", VOLUME, known(), ["no row knows its machine"]),
        ("a row that is gone", VOLUME, known(GONE), ["its machine is gone"]),
        ("a live row", VOLUME, known(LIVE), []),
        ("a live row, past its tag", replace(VOLUME, tags=LATE), known(LIVE), []),
        ("seen once", VOLUME, known(before=False), []),
        ("too young", replace(VOLUME, made_at=NOW), known(), []),
        ("no date, its row long gone", INTERFACE, known(GONE), ["its machine is gone"]),
        ("no date, its row just gone", INTERFACE, known(replace(GONE, gone_at=NOW)), []),
        ("no date and no row, seen for long", INTERFACE, known(seen_s=61), ["no row knows its machine"]),
        ("no date and no row", INTERFACE, known(seen_s=59), []),
        ("another controller's", replace(VOLUME, controller="c-2"), known(), []),
        ("another's, expired", replace(VOLUME, controller="c-2", tags=LATE), known(), ["past its expires-at"]),
        ("an unreadable date", replace(VOLUME, controller="c-2", tags={"expires-at": "soon"}), known(), []),
        ("a group long unused", GROUP, known(seen_s=61), ["no machine of ours has been there for a day"]),
        ("a group used today", GROUP, known(seen_s=61, used=True), []),
        ("another controller's group", replace(GROUP, controller="c-2"), known(seen_s=61), []),
    ],
)
def test_unwanted(case: str, one: Leftover, given: Known, expected: list[str]) -> None:
    assert [found.why for found in unwanted("sim", [one], given, "c-1", NOW, Policy())] == expected


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


def volumes(scene: Scene, count: int) -> list[Leftover]:
    made_at = scene.clock.now() - timedelta(hours=1)
    return [Leftover(Kind.VOLUME, f"vol-{n}", "north", "c-1", f"runner-i-{n}", made_at) for n in range(count)]


def test_an_empty_database_does_not_remove_everything_at_once(store: SimStore) -> None:
    """Ten volumes, no rows: nothing before they were seen twice, then at most a fifth at a time."""

    async def main() -> list[int]:
        scene = Scene(store)
        cloud = Cloud(left=volumes(scene, 10))
        leftovers, left = Leftovers(scene.port, {"sim": cloud}, scene.clock, POLICY), []
        for _ in range(5):
            for _ in range(18):
                await scene.clock.sleep(50.0)
                leftovers.turn()
            await scene.clock.sleep(1.0)
            left.append(len(cloud.left))
        assert (await scene.told("leftover.collected"))[0].message == "volume/vol-0: no row knows its machine"
        return left

    assert run_virtually(main()) == [10, 8, 7, 6, 5]


def test_by_hand_all_go_at_once_and_a_dry_run_only_names_them(store: SimStore) -> None:
    async def main() -> None:
        scene = Scene(store)
        cloud = Cloud(left=volumes(scene, 3))
        leftovers = Leftovers(scene.port, {"sim": cloud}, scene.clock, POLICY)
        named = ["volume/vol-0", "volume/vol-1", "volume/vol-2"]
        assert await leftovers.collect_now(dry_run=True) == (named, [])
        assert await leftovers.collect_now(expired_only=True) == ([], [])
        assert await leftovers.collect_now() == (named, named)
        assert cloud.left == []

    run_virtually(main())


def test_what_is_in_use_stays_and_is_tried_again_later(store: SimStore) -> None:
    async def main() -> None:
        scene = Scene(store)
        cloud = Cloud(left=volumes(scene, 1), in_use=True)
        leftovers = Leftovers(scene.port, {"sim": cloud}, scene.clock, POLICY)
        assert await leftovers.collect_now() == (["volume/vol-0"], [])
        assert await scene.told("leftover.collected") == []
        cloud.in_use = False
        assert await leftovers.collect_now() == (["volume/vol-0"], ["volume/vol-0"])

    run_virtually(main())


def test_a_listing_that_fails_removes_nothing(store: SimStore) -> None:
    async def main() -> None:
        scene = Scene(store)
        cloud = Cloud(left=volumes(scene, 2), error="throttled")
        leftovers = Leftovers(scene.port, {"sim": cloud}, scene.clock, POLICY)
        assert await leftovers.collect_now() == ([], [])
        cloud.fails = [Unreachable("no answer"), Unreachable("no answer")]
        assert await leftovers.collect_now() == ([], [])

    run_virtually(main())


def test_the_group_goes_a_day_after_the_last_machine(store: SimStore) -> None:
    async def main() -> None:
        scene, cloud = Scene(store), Cloud(left=[GROUP])
        one = await scene.instance()
        leftovers = Leftovers(scene.port, {"sim": cloud}, scene.clock, POLICY)
        await scene.clock.sleep(2 * 86400.0)
        assert await leftovers.collect_now(dry_run=True) == ([], [])
        for to in (InstancePhase.STOPPING, InstancePhase.GONE):
            one = await scene.port.instances.advance(one, to, Reason(Why.IDLE), scene.clock.now())
        await scene.clock.sleep(86400.0 - 60)
        assert await leftovers.collect_now(dry_run=True) == ([], [])
        await scene.clock.sleep(120.0)
        assert await leftovers.collect_now() == (["security-group/sg-1"], ["security-group/sg-1"])

    run_virtually(main())


def test_the_engine_looks_by_itself_and_by_hand(store: SimStore) -> None:
    async def main() -> None:
        scene = Scene(store)
        cloud = Cloud(left=volumes(scene, 1))
        engine = an_engine(scene.port, scene.clock, {}, policy=POLICY, abilities=Abilities(leftovers={"sim": cloud}))
        assert await engine.collect_now(dry_run=True) == {"found": ["volume/vol-0"], "ended": []}
        loop = asyncio.create_task(engine.run())
        await scene.clock.sleep(POLICY.leftovers_every_s + 60.0)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        assert cloud.left == []

    run_virtually(main())
