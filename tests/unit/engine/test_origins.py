"""Asking a forge where jobs come from, while it does not say."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from provisioner.domain.errors import ForgeUnreachable
from provisioner.domain.forge import CiJob, CiJobState, Forge, ForgeKind, Site
from provisioner.domain.policy import Policy
from provisioner.engine.origins import Origins
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import EPOCH, run_virtually

from .abilities import Scene

SITE = Site(ForgeKind("github"), "https://github.com", "acme/app")
JOB = CiJob("7", SITE, SITE.path, CiJobState.QUEUED, ("gpu",), EPOCH, run_id="3")


class Asked:
    """The Forges port, and its only forge: silent about every job until `says`."""

    def __init__(self) -> None:
        self.times = 0
        self.says: bool | None = None

    def of(self, site: Site) -> Forge:
        return self  # type: ignore[return-value]

    def preinstalled(self, site: Site) -> tuple[str, ...]:
        return ()

    async def job(self, site: Site, repository: str, job_id: str) -> CiJob | None:
        self.times += 1
        if self.says is None:
            raise ForgeUnreachable("502")
        return replace(JOB, fork=self.says)


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


def test_a_forge_that_was_silent_for_most_of_a_day_is_not_asked_more_often_for_it(store: SimStore) -> None:
    async def main() -> int:
        scene, forge = Scene(store), Asked()
        origins = Origins(scene.port, forge, scene.clock, Policy(poll_every_s=50.0), lambda: None)

        async def ask(times: int, every_s: float) -> int:
            for _ in range(times):
                origins.ask([JOB], lambda job: SITE)
                await scene.clock.sleep(every_s)
            return forge.times

        return -await ask(1100, 50) + await ask(100, 1)

    assert run_virtually(main()) <= 3


def test_what_was_ended_before_it_began_is_asked_for_when_the_loop_runs_again(store: SimStore) -> None:
    async def main() -> bool | None:
        scene, forge = Scene(store), Asked()
        origins = Origins(scene.port, forge, scene.clock, Policy(), lambda: None)
        origins.ask([JOB], lambda job: SITE)
        await origins.close()
        forge.says = False
        origins.ask([JOB], lambda job: SITE)
        await asyncio.sleep(1)
        return origins.known(JOB).fork

    assert run_virtually(main()) is False
