"""One test a law of the Reruns port. Both databases inherit them."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from provisioner.domain.forge import CiJob, CiJobState, ForgeKind, Site
from provisioner.domain.reruns import Rerun, RerunOutcome
from provisioner.domain.runners import RunnerRow
from provisioner.domain.store import Store

from .store_laws import later

_SITE = Site(ForgeKind("github"), "https://github.com", "octo")
_AT = later(0)


def _row(number: int) -> RunnerRow:
    return RunnerRow(f"runner-i-{number}", _SITE, "j-1", number, f"i-{number}", _AT)


def _ci(key: str, name: str = "train", run: str = "77", attempt: int = 1, at: datetime = _AT) -> CiJob:
    return CiJob(key, _SITE, "octo/repo", CiJobState.RUNNING, ("gpu",), at, run, attempt, name)


class RerunLaws:
    """Subclasses give a fresh `store`."""

    async def test_s13_a_runner_has_one_row_and_what_was_said_first_stays(self, store: Store) -> None:
        await store.reruns.lost(_row(1), later(5))
        await store.reruns.given(dataclasses.replace(_row(1), forge_id="7"), "octo/repo", "77", "train")
        await store.reruns.given(_row(1), "octo/other", "78", "test")
        await store.reruns.lost(_row(1), later(9))
        assert await store.reruns.of_job("j-1") == [
            Rerun("runner-i-1", _SITE, "j-1", 1, "7", "octo/repo", "77", ci_name="train", lost_at=later(5))
        ]

    async def test_s14_it_is_pending_from_its_loss_until_it_is_done(self, store: Store) -> None:
        await store.reruns.given(_row(1), "octo/repo", "77", "")
        assert await store.reruns.pending() == []
        await store.reruns.lost(_row(2), later(9))
        await store.reruns.lost(_row(1), later(5))
        await store.reruns.found("runner-i-1", _ci("900"))
        await store.reruns.tried("runner-i-1", 3)
        first, second = await store.reruns.pending()
        assert (first.ci_id, first.ci_attempt, first.ci_name, first.tries) == ("900", 1, "train", 3)
        assert (second.runner, second.run_id) == ("runner-i-2", "")
        await store.reruns.done("runner-i-1", RerunOutcome.ASKED, later(20))
        await store.reruns.done("runner-i-1", RerunOutcome.TOO_LATE, later(30))
        assert await store.reruns.pending() == [second]
        (done, _) = await store.reruns.of_job("j-1")
        assert (done.outcome, done.done_at) == (RerunOutcome.ASKED, later(20))

    async def test_s15_a_job_of_a_run_is_counted_by_its_name(self, store: Store) -> None:
        jobs = [_ci("900"), _ci("901", attempt=2), _ci("902", name="test"), _ci("903", run="78"), _ci("904")]
        for number, job in enumerate(jobs, 1):
            await store.reruns.lost(_row(number), later(5))
            await store.reruns.found(_row(number).name, job)
        for number in (1, 2, 3, 4):
            await store.reruns.done(_row(number).name, RerunOutcome.ASKED, later(9))
        (last,) = await store.reruns.pending()
        assert (last.ci_id, await store.reruns.asked(last)) == ("904", 2)
        await store.reruns.done(last.runner, RerunOutcome.TOO_OFTEN, later(9))
        assert await store.reruns.asked(last) == 2

    async def test_s16_what_was_lost_in_some_runs_whatever_became_of_it(self, store: Store) -> None:
        for number, run in enumerate(("77", "78", "77", "79"), 1):
            await store.reruns.given(_row(number), "octo/repo", run, "train")
        for number in (1, 2, 4):
            await store.reruns.lost(_row(number), later(5))
        await store.reruns.done("runner-i-1", RerunOutcome.ASKED, later(9))
        found = await store.reruns.lost_in({"77", "78", "80"})
        assert sorted(rerun.runner for rerun in found) == ["runner-i-1", "runner-i-2"]
        assert await store.reruns.lost_in(()) == []
