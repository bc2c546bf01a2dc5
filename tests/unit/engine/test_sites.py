"""A site without rights is in trouble, loudly, until they are handed over; then it is asked at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from provisioner.app.forges import OpenForges
from provisioner.domain.errors import ForgeUnauthorized
from provisioner.domain.forge import ForgeCredentials, ForgeKind, Site
from provisioner.domain.job import Job, JobPhase, JobSpec, RunnerSpec
from provisioner.domain.policy import Policy
from provisioner.engine.sites import Sites, ends
from tests.fakes.open_forge import FakeForges
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually

from .abilities import Scene

VISION = Site(ForgeKind("github"), "https://github.com", "acme/vision")
SPEC = JobSpec(run=(), kind="ci-runner", runner=RunnerSpec(VISION.url, "github", ("run-1",)))


@dataclass
class Seen:
    before: str
    told: dict[Site, str]
    after: str
    forgotten: dict[Site, str]
    events: list[str]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A job waits at a site; ten seconds later the right is handed over, and a second after that it is looked at."""
    folder: Path = tmp_path_factory.mktemp("home")
    store = SimStore()

    async def main() -> Seen:
        scene = Scene(store)
        clock, port = scene.clock, scene.port
        forges = OpenForges([], folder, {}, clock, handed=True, opener=FakeForges({"t": {"acme/vision"}}).open)
        sites = Sites(port, forges, clock, Policy(), lambda: None)
        forges.resume = sites.resume
        job = Job("j-1", "ann", SPEC, JobPhase.QUEUED, clock.now())

        async def rounds(count: int) -> str:
            for _ in range(count):
                sites.turn(())
                await clock.sleep(0.5)
                said = sites.blocked(job)
            return said

        before, told = await rounds(20), sites.trouble
        await forges.take(VISION, ForgeCredentials(token="t"))
        after = await rounds(2)
        sites.failed(VISION, ForgeUnauthorized("over"))
        await clock.sleep(600)
        forgotten = sites.trouble
        await sites.close()
        await forges.close()
        events = [one.what for one in await port.records.events()]
        return Seen(before, told, after, forgotten, [what for what in events if what.startswith("forge.")])

    return run_virtually(main())


def test_why_it_waits_says_what_to_do(seen: Seen) -> None:
    assert seen.before.startswith("no rights at github.com were handed over since the controller started")
    assert seen.before.endswith(
        "`runner launch --repo https://github.com/acme/vision` hands over the token of its environment"
    )
    assert seen.told == {VISION: seen.before}


def test_it_goes_on_as_soon_as_they_are_handed_over(seen: Seen) -> None:
    assert seen.after == ""
    assert seen.events == ["forge.trouble", "forge.answers"]


def test_a_site_that_nobody_wants_anything_of_is_no_trouble(seen: Seen) -> None:
    assert seen.forgotten == {}


def test_a_version_that_the_forge_refused_stops_launches_there_until_there_is_another(tmp_path: Path) -> None:
    store = SimStore()

    async def main() -> None:
        scene = Scene(store)
        clock, port = scene.clock, scene.port
        forges = OpenForges(
            [], tmp_path, {}, clock, handed=True, opener=(world := FakeForges({"t": {"acme/vision"}})).open
        )
        await forges.take(VISION, ForgeCredentials(token="t"))
        job = Job("j-1", "ann", SPEC, JobPhase.QUEUED, clock.now())

        async def after(sites: Sites, seconds: float) -> str:
            for _ in range(int(seconds)):
                sites.turn({VISION})
                await clock.sleep(1)
            return sites.blocked(job)

        sites = Sites(port, forges, clock, Policy(), lambda: None)
        assert await after(sites, 3) == ""
        for told in (None, {"version": "2.329.0"}):
            await sites.refused(VISION, told)
            assert sites.blocked(job) == ""
        for _ in range(2):
            await sites.refused(VISION, {"version": "2.330.0"})
        why = "github.com refused the version 2.330.0 of its runner program: name a newer one in the settings"
        assert (sites.blocked(job), sites.trouble) == (why, {VISION: why})
        assert await after(sites, 60) == why
        again = Sites(port, forges, clock, Policy(), lambda: None)
        assert await after(again, 3) == why
        world.version = "2.331.0"
        assert await after(again, 3700) == ""
        events = [one.what for one in await port.records.events()]
        assert events == ["forge.version_refused", "forge.trouble", "forge.trouble", "forge.answers"]
        for one in (sites, again, forges):
            await one.close()

    run_virtually(main())


@pytest.mark.parametrize("days", [15, 13, -1])
def test_that_a_version_will_be_refused_is_said_a_fortnight_ahead_and_stops_launches_from_then_on(
    tmp_path: Path, days: int
) -> None:
    store = SimStore()

    async def main() -> None:
        scene = Scene(store)
        clock, port = scene.clock, scene.port
        world = FakeForges({"t": {"acme/vision"}})
        world.refused_at = clock.now() + timedelta(days=days)
        forges = OpenForges([], tmp_path, {}, clock, handed=True, opener=world.open)
        await forges.take(VISION, ForgeCredentials(token="t"))
        sites, job = (
            Sites(port, forges, clock, Policy(), lambda: None),
            Job("j-1", "ann", SPEC, JobPhase.QUEUED, clock.now()),
        )
        for _ in range(90):
            sites.turn({VISION})
            await clock.sleep(1)
        at = f"{world.refused_at:%Y-%m-%d}"
        said = f"github.com refuses actions-runner 2.330.0 from {at} on: name a newer one in the settings"
        told = [(one.what, one.message) for one in await port.records.events()]
        soon = {site: ends(site.host, software) for site, software in sites.ending.items()}
        assert (sites.blocked(job), soon, told) == {
            15: ("", {}, []),
            13: ("", {VISION: said}, [("forge.version_ends", said)]),
            -1: (said, {}, [("forge.trouble", said)]),
        }[days]
        await sites.close()
        await forges.close()

    run_virtually(main())


def test_that_a_version_will_be_refused_is_said_once_a_day_and_no_more_when_there_is_another(tmp_path: Path) -> None:
    store = SimStore()

    async def main() -> None:
        scene = Scene(store)
        clock, port = scene.clock, scene.port
        world = FakeForges({"t": {"acme/vision"}})
        world.refused_at = clock.now() + timedelta(days=13)
        forges = OpenForges([], tmp_path, {}, clock, handed=True, opener=world.open)
        await forges.take(VISION, ForgeCredentials(token="t"))
        sites = Sites(port, forges, clock, Policy(), lambda: None)

        async def hours(count: int) -> None:
            for _ in range(count * 2):
                sites.turn({VISION})
                await clock.sleep(1800)

        await hours(50)
        assert [one.what for one in await port.records.events()] == ["forge.version_ends"] * 3
        world.version, world.refused_at = "2.331.0", None
        await hours(2)
        assert sites.ending == {}
        await sites.close()
        await forges.close()

    run_virtually(main())
