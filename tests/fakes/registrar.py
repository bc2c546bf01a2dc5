"""The Registrar port in memory, for the web's tests: a runner of a job called `...-refused` is not wanted any more."""

from __future__ import annotations

from provisioner.domain.errors import Conflict, ForgeUnreachable
from provisioner.domain.forge import Registration, Software, parse_site
from provisioner.domain.job import Attempt, Instance, Job
from provisioner.domain.registrar import RunnerProgram


class FakeRegistrar:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.software: Software | None = Software("actions-runner", "2.330.0", "https://forge.example/r", "ab" * 32)

    async def program(self, job: Job, attempt: Attempt, instance: Instance) -> RunnerProgram:
        if self.software is None:
            raise ForgeUnreachable("forge.example does not answer")
        assert job.spec.runner is not None
        site = parse_site(job.spec.runner.url, {"forge.example": job.spec.runner.forge})
        return RunnerProgram(instance.name, site, job.spec.runner.labels, self.software)

    async def register(self, job: Job, attempt: Attempt) -> Registration:
        self.asked.append(attempt.key)
        if job.id.endswith("-refused"):
            raise Conflict(f"{attempt.key} is to be no runner any more")
        return Registration("7", f"runner-of-{attempt.key}", f"secret-{len(self.asked)}")
