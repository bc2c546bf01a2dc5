"""Which work a machine that is there may be given."""

from __future__ import annotations

from dataclasses import replace

from provisioner.domain.job import Job, JobPhase, JobSpec, Need, RunnerSpec
from provisioner.engine.scene import fits

from .test_attempts import trial

MACHINE = trial().instance


def test_a_machine_is_its_owners_for_good() -> None:
    """What one owner's job left on it is no other's to find, with sudo or without."""
    assert fits("ada", Need(), MACHINE)
    assert not fits("bob", Need(), MACHINE)
    assert not fits("bob", Need(), replace(MACHINE, planned_for=""))


def test_a_runners_machine_is_that_runners_alone() -> None:
    """Which job it was given, a fork's perhaps, its forge decided."""
    spec = JobSpec(run=(), kind="ci-runner", runner=RunnerSpec("https://github.com/acme/app", "github", ("gpu",)))
    jobs = [Job(f"j-{n}", "ada", spec, JobPhase.QUEUED, MACHINE.created_at) for n in (1, 2)]
    jobs.append(replace(jobs[0], spec=JobSpec(run="true")))
    its_own = replace(MACHINE, owner=jobs[0].tenant, planned_for="")
    assert [fits(job.tenant, job.spec.need, its_own) for job in jobs] == [True, False, False]
    assert [fits(job.tenant, job.spec.need, MACHINE) for job in jobs] == [False, False, True]
    assert its_own.belongs_to == "ada"


def test_an_image_that_was_asked_for_is_the_one_that_is_given() -> None:
    assert not fits("ada", Need(image="ami-1"), MACHINE)
    assert fits("ada", Need(image="ami-1"), replace(MACHINE, image="ami-1"))
