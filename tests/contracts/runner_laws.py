"""One test a law of the Runners port. Both databases inherit them."""

from __future__ import annotations

import asyncio
import dataclasses

from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.job import Reason, Why
from provisioner.domain.store import Store

from .store_laws import later, running


class RunnerLaws:
    """Subclasses give a fresh `store`."""

    async def test_s11_a_runner_is_named_after_its_machine_and_its_row_is_made_once(self, store: Store) -> None:
        site = Site(ForgeKind("github"), "https://github.com", "octo/repo")
        first, one = await running(store, "1")
        row = await store.runners.expect(first, site, one.name, later(6))
        assert (row.name, row.site, row.gone_at) == (one.name, site, None)
        assert await store.runners.expect(first, site, one.name, later(9)) == row
        again = dataclasses.replace(first, number=2)
        assert (await store.runners.expect(again, site, one.name, later(10))).name == f"{one.name}-2"
        assert await store.runners.known([one.name, "runner-i-other"]) == {one.name}

    async def test_s11_of_many_who_expect_it_at_once_one_makes_the_row(self, store: Store) -> None:
        site = Site(ForgeKind("github"), "https://github.com", "octo/repo")
        first, one = await running(store, "1")
        rows = await asyncio.gather(*(store.runners.expect(first, site, one.name, later(6)) for _ in range(8)))
        assert {row.name for row in rows} == {one.name}
        await asyncio.gather(*(store.reruns.lost(rows[0], later(7)) for _ in range(8)))
        assert [one.runner for one in await store.reruns.pending()] == [one.name]

    async def test_who_waits_for_a_runner_is_known_by_what_they_said_last(self, store: Store) -> None:
        for job_id, at in (("j-1", later(1)), ("j-2", None), ("j-1", later(3)), ("j-2", later(4))):
            await store.runners.note_waits(job_id, at)
        assert await store.runners.waited_for(["j-1", "j-2", "j-3"]) == {"j-1": later(3), "j-2": None}

    async def test_s12_a_runner_is_there_until_it_is_gone_and_what_came_first_stays(self, store: Store) -> None:
        first, one = await running(store, "1")
        row = await store.runners.expect(first, Site(ForgeKind("gitlab"), "https://g", "a/b/c"), one.name, later(6))
        idle = Reason(Why.IDLE, "nobody came")
        for at in (later(7), later(8)):
            await store.runners.note(row.name, forge_id="7", online_at=later(7), reason=idle, unwanted_at=at)
        assert [(one.reason, one.unwanted_at) for one in await store.runners.there()] == [(idle, later(7))]
        await store.runners.note(row.name, online_at=later(9), busy_at=later(8), reason=Reason())
        (there,) = await store.runners.there()
        wanted = dataclasses.replace(row, forge_id="7", online_at=later(7), busy_at=later(8))
        assert there == wanted
        await store.runners.note(row.name, gone_at=later(20))
        assert await store.runners.there() == []
        assert (await store.runners.sites(later(19)), await store.runners.sites(later(21))) == ({row.site}, set())
        assert await store.runners.of_job(first.job_id) == [dataclasses.replace(wanted, gone_at=later(20))]
