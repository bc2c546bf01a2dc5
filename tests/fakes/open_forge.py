"""The Forge port in memory, opened by a token: which tokens open which sites is the test's to say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from provisioner.domain.errors import ForgeRefused, ForgeUnauthorized, InvalidRequest, RunnerBusy
from provisioner.domain.forge import (
    CiJob,
    ForgeCredentials,
    ForgeKind,
    Registration,
    Release,
    Runner,
    RunnerOrder,
    Site,
    Software,
)
from provisioner.domain.ports import Clock


class FakeForges:
    """`opens`: token -> paths. `opened` are all that were made, in order. `there` are runners
    by name, `stays` why one cannot be removed."""

    def __init__(self, opens: dict[str, set[str]] | None = None) -> None:
        self.opens = opens or {}
        self.opened: list[OpenForge] = []
        self.ci_jobs: dict[str, CiJob] = {}
        self.there: dict[str, Runner] = {}
        self.stays: dict[str, str] = {}
        self.version = "2.330.0"
        self.refused_at: datetime | None = None

    def open(
        self, kind: ForgeKind, base: str, credentials: ForgeCredentials, clock: Clock, release: Release
    ) -> OpenForge:
        if not (credentials.token or credentials.private_key):
            raise InvalidRequest("nothing to open it with")
        self.opened.append(OpenForge(self, kind, base, credentials, release))
        return self.opened[-1]


class OpenForge:
    visibility_s = 1.0

    def __init__(
        self, world: FakeForges, kind: ForgeKind, base: str, credentials: ForgeCredentials, release: Release
    ) -> None:
        self._world = world
        self.kind = kind
        self.base = base
        self.credentials = credentials
        self.release = release
        self.closed = False

    def _check(self, site: Site) -> None:
        if site.path not in self._world.opens.get(self.credentials.token, ()):
            raise ForgeUnauthorized(f"GET {site.path}: 403", hint="look what the credential may do")

    async def runners(self, site: Site) -> Sequence[Runner]:
        self._check(site)
        return list(self._world.there.values())

    async def job(self, site: Site, repository: str, job_id: str) -> CiJob | None:
        self._check(site)
        return self._world.ci_jobs.get(job_id)

    async def software(self, site: Site, system: str, machine: str) -> Software:
        version = self.release.version or self._world.version
        address = f"https://forge.example/{version}"
        return Software("actions-runner", version, address, "ab" * 32, self._world.refused_at)

    async def register(self, site: Site, order: RunnerOrder) -> Registration:
        raise ForgeRefused("not in this play")

    async def remove(self, site: Site, forge_id: str, name: str) -> None:
        self._check(site)
        if name in self._world.stays:
            raise RunnerBusy(self._world.stays[name])
        self._world.there.pop(name, None)

    async def queued(self, site: Site) -> Sequence[CiJob]:
        raise ForgeRefused("not in this play")

    async def rerun(self, site: Site, job: CiJob) -> None:
        raise ForgeRefused("not in this play")

    async def close(self) -> None:
        self.closed = True
