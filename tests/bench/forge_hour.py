"""What looking at 200 repositories costs of the hour that GitHub allows: everything new, nothing new, runs of a tenth.

The real client and the fake GitHub over HTTP, which counts as GitHub does: what is unchanged costs nothing. The passes
of an hour are not all made; they cost what these do.
"""

from __future__ import annotations

import asyncio

import structlog

from provisioner.domain.forge import Site
from provisioner.domain.policy import Policy
from provisioner.forges.github.credentials import Token
from provisioner.forges.github.forge import GitHub
from tests.fakes.github.server import FakeGitHub
from tests.fakes.hand_clock import HandClock

from .measure import say

REPOSITORIES, NEWS = 200, 20
_TOKEN = "ghp_bench"
_LABELS = ["self-hosted", "gpu"]


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    asyncio.run(_measure())


async def _measure() -> None:
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
    passes = round(3600 / Policy().poll_every_s)
    spare = fake.limits.primary * 2 // 3
    say(f"calls counted of a first pass over {REPOSITORIES} repositories", str(new))
    say("of one in which nothing is new", str(quiet))
    say("of a run of one job, seen waiting, seen at work and seen no more", f"{life / NEWS:.1f}")
    say(f"of an hour of {passes} passes, nothing new", str(new + quiet * passes), str(spare))
    say("runs in that hour before a third is not spare", f"{(spare - new - quiet * passes) * NEWS / life:.0f}")


async def _cost(fake: FakeGitHub, forge: GitHub, clock: HandClock, sites: list[Site]) -> int:
    clock.move(Policy().poll_every_s)
    before = fake.limits.used()
    for site in sites:
        await forge.queued(site)
    return fake.limits.used() - before
