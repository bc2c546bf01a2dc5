"""A runner that came and served while no controller saw it: what its end tells is what is known of it."""

from __future__ import annotations

from provisioner.domain.facts import AttemptReport, Report, RunnerTold
from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.job import Job, JobPhase, JobSpec, Outcome, RunnerSpec
from provisioner.domain.policy import Policy
from provisioner.engine.attempts import Attempts
from provisioner.engine.interruptions import Interruptions
from tests.contracts.store_laws import ready
from tests.fakes.simstore import SimStore
from tests.fakes.virtual import run_virtually
from tests.unit.engine.test_paused import Play

VISION = Site(ForgeKind("github"), "https://github.com", "acme/vision")


def test_its_end_says_that_it_was_online_and_had_a_job() -> None:
    store = SimStore()

    async def main() -> None:
        play = Play(store)
        spec = JobSpec(run=(), kind="ci-runner", runner=RunnerSpec(VISION.url, "github", ("run-7",)))
        job = await play.store.jobs.submit(Job("ci-1", "ann", spec, JobPhase.QUEUED, play.clock.now()))
        machine = await ready(play.store, "i-1")
        attempt = await play.store.jobs.assign(job, machine, play.clock.now())
        await play.store.runners.expect(attempt, VISION, machine.name, play.clock.now())
        engine = play.engine
        taken = Interruptions(play.store, {}, play.clock, Policy())
        attempts = Attempts(
            play.store, engine.observed, engine.desk, play.clock, Policy(), taken, engine.reruns, engine.runners.sites
        )
        told = AttemptReport("ci-1", 1, "ended", 0, "exit", runner=RunnerTold("done", jobs=1))
        engine.observed.reports["i-1"] = Report(play.clock.now(), attempts=(told,))
        live = await play.store.jobs.live_attempts()
        assert await attempts.look(live, {"i-1": machine}, {}) == {"i-1"}
        (row,) = await play.store.runners.of_job("ci-1")
        assert row.online_at == row.busy_at == play.clock.now()
        assert (await play.store.jobs.get("ci-1")).outcome is Outcome.SUCCEEDED

    run_virtually(main())
