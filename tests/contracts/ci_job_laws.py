"""The laws of what is known of CI jobs, and of submitting for a pool, as tests for every database."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

from provisioner.domain.demand import WAITS_FOR
from provisioner.domain.forge import CiJob, CiJobState, ForgeKind, Site
from provisioner.domain.job import InstancePhase, Job, Outcome, Reason, RunnerSpec
from provisioner.domain.store import Store

from .store_laws import CAPS, NOW, instance, job, later, moved

ACME = Site(ForgeKind("github"), "https://github.com", "acme")
QUEUED, RUNNING, DONE = CiJobState


def ci_job(key: str, state: CiJobState = QUEUED, repository: str = "acme/app", **more: object) -> CiJob:
    site = Site(ForgeKind("github"), "https://github.com", repository)
    given: dict[str, object] = {"labels": ("gpu",), "created_at": NOW, "run_id": "r1", **more}
    return CiJob(key, site, repository, state, **given)  # type: ignore[arg-type]


async def waiting(store: Store, at: float = 10) -> list[CiJob]:
    return [known.job for known in (await store.ci_jobs.believed((), later(at))).waiting]


async def took(store: Store, delivery_id: str, jobs: list[CiJob], at: datetime) -> bool:
    (fresh,) = await store.ci_jobs.take([(delivery_id, jobs)], at)
    return fresh


def of_pool(number: int) -> Job:
    more = {"name": "pool/gpu", "kind": "ci-runner", "runner": RunnerSpec(ACME.url, "github", ("gpu",))}
    return job(f"j-{number}", owner="pool/gpu/github.com/acme", at=number, **more)


class CiJobLaws:
    """Subclasses give a fresh `store`."""

    async def test_s13_a_job_comes_back_as_it_was_told(self, store: Store) -> None:
        told = ci_job("1", name="train", url="https://x", ref="main", fork=False, attempt=2)
        assert await took(store, "d1", [told], later(1))
        assert await waiting(store) == [told]

    async def test_s13_a_state_never_goes_back(self, store: Store) -> None:
        for number, state in enumerate((RUNNING, QUEUED, DONE, RUNNING, QUEUED)):
            assert await took(store, f"d{number}", [ci_job("1", state)], later(number))
            assert await waiting(store) == []
        await store.ci_jobs.listed(ACME, [ci_job("1")], later(20), later(21))
        assert await waiting(store, 30) == []

    async def test_s13_another_attempt_or_another_forge_is_another_job(self, store: Store) -> None:
        elsewhere = replace(ci_job("1"), site=Site(ForgeKind("github"), "https://ghe.acme.example", "acme/app"))
        again = ci_job("1", attempt=2)
        await store.ci_jobs.note([ci_job("1", DONE), again, elsewhere], later(1))
        assert await waiting(store) == [elsewhere, again]

    async def test_s13_what_is_not_told_again_stays(self, store: Store) -> None:
        await store.ci_jobs.note([ci_job("1", fork=True, ref="main")], later(1))
        await store.ci_jobs.note([ci_job("1", labels=(), runner_name="runner-i-1")], later(2))
        assert await waiting(store) == [ci_job("1", fork=True, ref="main", runner_name="runner-i-1")]

    async def test_s14_a_delivery_counts_once(self, store: Store) -> None:
        assert await took(store, "d1", [ci_job("1")], later(1))
        assert not await took(store, "d1", [ci_job("1"), ci_job("2")], later(2))
        assert await waiting(store) == [ci_job("1")]

    async def test_s14_deliveries_that_come_together_count_once_each(self, store: Store) -> None:
        one, two = ci_job("1"), ci_job("2")
        assert await store.ci_jobs.take([("d1", [one]), ("d2", [two]), ("d1", [one])], later(1)) == [True, True, False]
        assert await waiting(store) == [one, two]

    async def test_s14_of_many_who_take_one_delivery_at_once_one_does(self, store: Store) -> None:
        taken = await asyncio.gather(*(took(store, "d1", [ci_job("1")], later(1)) for _ in range(8)))
        assert sorted(taken) == [False] * 7 + [True]

    async def test_s14_an_old_webhook_sent_again_brings_nothing_back(self, store: Store) -> None:
        days = WAITS_FOR.total_seconds() * 8
        await took(store, "d1", [ci_job("1")], later(1))
        assert await waiting(store, days) == []
        await store.ci_jobs.prune(later(days))
        assert await took(store, "d1", [ci_job("1")], later(days))
        assert await waiting(store, days) == []
        await store.ci_jobs.listed(ACME, [ci_job("1")], later(days), later(days))
        assert await waiting(store, days + 1) == [ci_job("1")]

    async def test_s15_a_job_that_two_polls_do_not_show_waits_no_more(self, store: Store) -> None:
        mine, theirs = ci_job("1"), ci_job("2", repository="other/app")
        await store.ci_jobs.note([mine, theirs], later(10))
        await store.ci_jobs.listed(ACME, [], later(9), later(11))
        await store.ci_jobs.listed(ACME, [], later(20), later(21))
        assert await waiting(store, 30) == [mine, theirs]
        await store.ci_jobs.listed(ACME, [], later(40), later(41))
        assert await waiting(store, 50) == [theirs]

    async def test_s15_a_poll_that_shows_it_proves_that_it_waits(self, store: Store) -> None:
        assert await store.ci_jobs.listed(ACME, [ci_job("1"), ci_job("2")], later(1), later(2)) == 2
        for at in (10, 20):
            assert await store.ci_jobs.listed(ACME, [ci_job("2")], later(at), later(at + 1)) == 0
        assert await waiting(store, 30) == [ci_job("2")]
        await store.ci_jobs.listed(ACME, [ci_job("1"), ci_job("2")], later(30), later(31))
        assert await waiting(store, 40) == [ci_job("1"), ci_job("2")]

    async def test_a_job_says_by_whom_it_was_begun_and_why_it_is_refused(self, store: Store) -> None:
        begun = ci_job("1", RUNNING, runner_name="runner-i-1")
        await store.ci_jobs.note([begun, ci_job("2")], later(1))
        assert await store.ci_jobs.begun_by(["runner-i-1", "runner-i-2"]) == {"runner-i-1": begun}
        assert [await store.ci_jobs.note_refused(ci_job("2"), "a fork") for _ in range(2)] == [True, False]
        assert [known.refused for known in (await store.ci_jobs.believed((), later(5))).waiting] == ["a fork"]

    async def test_s16_of_many_who_submit_after_seeing_the_same_one_does(self, store: Store) -> None:
        asked = [[of_pool(10 * who + number) for number in range(3)] for who in range(8)]
        done = await asyncio.gather(*(store.ci_jobs.submit("gpu", jobs, made=0, at_most=100) for jobs in asked))
        assert sorted(done) == [0] * 7 + [3]
        assert len(await store.jobs.waiting()) == 3
        assert (await store.ci_jobs.believed(("gpu", "cpu"), NOW)).made == {"gpu": 3, "cpu": 0}

    async def test_s16_never_more_than_the_most_machines_that_outlast_their_runners_included(
        self, store: Store
    ) -> None:
        assert await store.ci_jobs.submit("gpu", [of_pool(1), of_pool(2)], made=0, at_most=3) == 2
        assert await store.ci_jobs.submit("gpu", [of_pool(3), of_pool(4)], made=2, at_most=3) == 1
        assert await store.ci_jobs.submit("gpu", [of_pool(4)], made=3, at_most=3) == 0
        first = await store.jobs.get("j-1")
        row = replace(instance("i-1", "j-1"), owner=first.tenant)
        machine = await store.instances.plan(row, **CAPS)  # type: ignore[arg-type]
        assert await store.ci_jobs.submit("gpu", [of_pool(4)], made=3, at_most=3) == 0
        await store.jobs.finish(first, Outcome.CANCELLED, Reason(), NOW + timedelta(seconds=9))
        assert await store.ci_jobs.submit("gpu", [of_pool(4)], made=3, at_most=3) == 0
        await moved(store, machine, InstancePhase.GONE)
        assert await store.ci_jobs.submit("gpu", [of_pool(4)], made=3, at_most=3) == 1
