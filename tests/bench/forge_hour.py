"""What looking at 200 repositories costs of the hour that GitHub allows: everything new, nothing new, runs of a tenth;
and beside that, at one organisation with 500 runners that come and go, what listing them costs.

The real client and the fake GitHub over HTTP, which counts as GitHub does: what is unchanged costs nothing. The passes
of an hour are not all made; they cost what these do. The hour of listings is, by the engine's `Sites`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import structlog

from provisioner.domain.forge import Forges, Runner, Site, Software
from provisioner.domain.policy import Policy
from provisioner.engine.sites import Sites
from provisioner.forges.github.credentials import Token
from provisioner.forges.github.forge import GitHub
from tests.fakes.github.server import FakeGitHub
from tests.fakes.hand_clock import HandClock
from tests.fakes.simstore import SimStore

from .measure import say

REPOSITORIES, NEWS = 200, 20
RUNNERS, LIVES_S = 500, 600
_TOKEN = "ghp_bench"
_LABELS = ["self-hosted", "gpu"]


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    asyncio.run(_measure(SimStore()))


async def _measure(store: SimStore) -> None:
    clock = HandClock()
    fake = FakeGitHub(clock)
    fake.state.lag_s = 0.0
    fake.start()
    sites = [fake.add_repository(f"acme/r{number}") for number in range(REPOSITORIES)]
    fake.accounts.tokens[_TOKEN] = ""
    forge = GitHub(fake.url, Token(_TOKEN), clock)
    try:
        new = await _cost(fake, forge, clock, sites)
        quiet = await _cost(fake, forge, clock, sites)
        runs = [fake.state.add_run(site.path, [_LABELS]) for site in sites[:NEWS]]
        life = await _cost(fake, forge, clock, sites)
        for run in runs:
            record = fake.state.register(run.repository, f"runner-i-{run.id}", _LABELS)
            fake.state.give(run.latest[0], record)
        life += await _cost(fake, forge, clock, sites)
        for run in runs:
            fake.state.end(run.latest[0], "success")
        life += await _cost(fake, forge, clock, sites)
    finally:
        await forge.close()
        fake.stop()
    listings = await _listings(store)
    passes = round(3600 / Policy().poll_every_s)
    spare = fake.limits.primary * 2 // 3
    say(f"calls counted of a first pass over {REPOSITORIES} repositories", str(new))
    say("of one in which nothing is new", str(quiet))
    say("of a run of one job, seen waiting, seen at work and seen no more", f"{life / NEWS:.1f}")
    say(f"of an hour of {passes} passes, nothing new", str(new + quiet * passes), str(spare))
    say("runs in that hour before a third is not spare", f"{(spare - new - quiet * passes) * NEWS / life:.0f}")
    say(f"of an hour of listing {RUNNERS} runners, each there for {LIVES_S} s", str(listings))
    say("of both", str(new + quiet * passes + listings), str(spare))
    left = spare - new - quiet * passes - listings
    say("runs in that hour before a third is not spare, beside both", f"{left * NEWS / life:.0f}")


async def _cost(fake: FakeGitHub, forge: GitHub, clock: HandClock, sites: list[Site]) -> int:
    clock.move(Policy().poll_every_s)
    before = fake.limits.used()
    for site in sites:
        await forge.queued(site)
    return fake.limits.used() - before


async def _listings(store: SimStore) -> int:
    """Calls counted of an hour in which a new runner takes an old one's place every now and then."""
    clock = HandClock()
    fake = FakeGitHub(clock)
    fake.state.lag_s = 0.0
    fake.limits.primary = 10**6
    fake.start()
    site = fake.site("acme")
    fake.accounts.tokens[_TOKEN] = ""
    forge = GitHub(fake.url, Token(_TOKEN), clock)
    store.empty(1)
    listed = _Listed(forge)
    sites = Sites(store.port, cast("Forges", listed), clock, Policy(), lambda: None)
    for _ in range(RUNNERS):
        _come(fake, site)
    came = 0.0
    try:
        for _ in range(3600):
            came += RUNNERS / LIVES_S
            while came >= 1:
                came -= 1
                _come(fake, site)
                del fake.state.records[0]
                sites.want(site)
            sites.turn([site])
            await listed.done()
            clock.move(1.0)
        return fake.limits.used()
    finally:
        await sites.close()
        await forge.close()
        fake.stop()


def _come(fake: FakeGitHub, site: Site) -> None:
    fake.state.register(site.path, f"runner-{fake.state.next_id()}", _LABELS)


class _Listed:
    """The Forges port over one forge, whose program is known."""

    def __init__(self, forge: GitHub) -> None:
        self._forge = forge
        self._answered = asyncio.Event()
        self._answered.set()

    def of(self, site: Site) -> _Listed:
        return self

    async def done(self) -> None:
        """What has been started has been answered."""
        for _ in range(20):
            await asyncio.sleep(0)
        await self._answered.wait()

    async def runners(self, site: Site) -> Sequence[Runner]:
        self._answered.clear()
        try:
            return await self._forge.runners(site)
        finally:
            self._answered.set()

    async def software(self, site: Site, system: str, machine: str) -> Software:
        return Software("actions-runner", "2.330.0", "https://github.com/runner", "ab" * 32)
