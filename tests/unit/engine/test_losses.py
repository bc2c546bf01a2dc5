"""What waits to be run again after its machine was lost: known from the moment when the loss is."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import event

from provisioner.domain.forge import CiJob, CiJobState, ForgeKind, Site
from provisioner.domain.policy import Policy
from provisioner.domain.reruns import RerunOutcome
from provisioner.domain.runners import RunnerRow
from provisioner.engine.losses import Losses
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import SimClock, run_virtually

ACME = Site(ForgeKind("github"), "https://github.com", "acme")


def test_a_rerun_that_waits_before_its_loss_is_on_record_counts_from_then_on() -> None:
    """A person asked for it as soon as the forge said that the job had failed."""
    store = SimStore()

    async def main() -> None:
        port, now = store.port, SimClock().now()
        row = RunnerRow("runner-i-1", ACME, "j-1", 1, "i-1", now)
        cut = CiJob("900", ACME, "acme/app", CiJobState.DONE, ("gpu",), now, "77", 1, "train")
        again = replace(cut, id="901", attempt=2, state=CiJobState.QUEUED)
        losses = Losses(port, Policy())
        assert await losses.among([again]) == frozenset()
        await port.reruns.lost(row, now)
        await port.reruns.found(row.name, cut)
        await port.reruns.done(row.name, RerunOutcome.ASKED, now)
        assert await losses.among([again]) == {again.key}

    run_virtually(main())


def test_all_that_wait_are_asked_about_together() -> None:
    store, asked = SimStore(), list[str]()

    async def main() -> None:
        port, now = store.port, SimClock().now()
        jobs = [
            CiJob(str(n), ACME, "acme/app", CiJobState.QUEUED, ("gpu",), now, str(n // 40), name=str(n))
            for n in range(1600)
        ]
        event.listen(port.database.engine, "before_cursor_execute", lambda *words: asked.append(words[2]))
        losses = Losses(port, Policy())
        assert await losses.among(jobs) == frozenset()
        assert await losses.among([]) == frozenset()

    run_virtually(main())
    assert len([one for one in asked if "FROM reruns" in one]) == 1
