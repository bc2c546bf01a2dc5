"""What listings take of a forge's hour: a site of few runners is looked at soon, and none takes more than its share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from provisioner.domain.errors import ForgeUnreachable
from provisioner.domain.forge import Counted, ForgeKind, Runner, Site
from provisioner.domain.policy import Policy
from provisioner.engine.sites import Sites
from tests.fakes.simforge import SITE, ForgeFaults, SimForge, SimForges
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually

from .abilities import Scene

BIG = Site(ForgeKind("github"), "https://github.com", "acme")


class _Forge(SimForge):
    """Whose listings cost `calls`, by site; `asked` is when each was made."""

    def __init__(self, clock: Any, calls: dict[Site, int]) -> None:
        super().__init__(clock, cast("Any", None), ForgeFaults.none())
        self.calls = calls
        self.asked: list[tuple[float, Site]] = []

    async def runners(self, site: Site) -> Sequence[Runner]:
        self.asked.append((self._clock.monotonic(), site))
        return Counted([], self.calls[site])

    def spent(self, since_s: float, until_s: float) -> int:
        return sum(self.calls[site] for at_s, site in self.asked if since_s <= at_s < until_s)


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


def watched(store: SimStore, calls: dict[Site, int], seconds: int, wanted: dict[Site, int]) -> _Forge:
    """For so long, sites wanted every so many seconds."""

    async def main() -> _Forge:
        scene = Scene(store)
        forge = _Forge(scene.clock, calls)
        sites = Sites(scene.port, SimForges(forge), scene.clock, Policy(), lambda: None)
        for second in range(seconds):
            for site, every in wanted.items():
                if second % every == 0:
                    sites.want(site)
            sites.turn(list(calls))
            await scene.clock.sleep(1)
        await sites.close()
        return forge

    return run_virtually(main())


@pytest.mark.parametrize("calls", [1, 5, 48])
def test_no_hour_of_one_site_costs_more_than_its_share(store: SimStore, calls: int) -> None:
    """However often something is done there."""
    forge = watched(store, {BIG: calls}, 5400, {BIG: 1})
    spent = [forge.spent(since, since + 3600) for since in range(0, 1801, 60)]
    assert max(spent) <= 1500 + calls
    assert min(spent) >= 1000


def test_a_small_site_is_seen_at_once_beside_one_of_thousands(store: SimStore) -> None:
    """Two seconds after it was seen last, when something is done there."""
    forge = watched(store, {BIG: 48, SITE: 1}, 1200, {BIG: 1, SITE: 60})
    seen = [at_s for at_s, site in forge.asked if site == SITE]
    late = [min(at_s for at_s in seen if at_s >= wanted_s) - wanted_s for wanted_s in range(60, 1140, 60)]
    assert max(late) <= 2
    assert forge.spent(0, 1200) <= 300 + 400 + 48


def test_a_site_alone_is_looked_at_every_quarter_of_a_minute(store: SimStore) -> None:
    forge = watched(store, {SITE: 1}, 61, {})
    assert [at_s for at_s, _ in forge.asked] == [0, 15, 30, 45, 60]


def test_a_registration_that_failed_is_no_trouble_that_was_told_of(store: SimStore) -> None:
    async def main() -> None:
        scene = Scene(store)
        sites = Sites(scene.port, SimForges(_Forge(scene.clock, {SITE: 1})), scene.clock, Policy(), lambda: None)
        sites.failed(SITE, ForgeUnreachable("502"))
        assert sites.trouble == {SITE: "502"}
        sites.turn([SITE])
        await scene.clock.sleep(1)
        assert sites.trouble == {}
        assert await scene.told("forge.trouble", "forge.answers") == []
        await sites.close()

    run_virtually(main())
