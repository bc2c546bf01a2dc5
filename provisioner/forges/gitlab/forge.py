"""A GitLab behind the Forge and Reviews ports: its parts under one roof, and its runner program.

The API is /api/v4 below the forge's own address, whatever root it lives under. The token needs the scopes api and
create_runner, and the role that may make runners: maintainer of a project, owner of a group, administrator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from provisioner.domain.forge import (
    CiJob,
    ForgeCredentials,
    Given,
    Registration,
    Release,
    Runner,
    RunnerOrder,
    Site,
    Software,
)
from provisioner.domain.ports import Clock

from .. import checksums
from ..line import Line
from ..rest import Rest
from .jobs import Jobs
from .limits import DIALECT
from .notes import Notes
from .program import NAME
from .runners import VISIBILITY_S, Runners
from .scope import Scopes
from .steps import KIND

VERSION = "18.5.0"
SOURCE = "https://gitlab-runner-downloads.s3.amazonaws.com"


class Token:
    def __init__(self, token: str) -> None:
        self._token = token

    async def headers(self) -> Mapping[str, str]:
        return {"private-token": self._token}

    def refused(self) -> None:
        """There is no other."""


class GitLab(Notes):
    kind = KIND
    visibility_s = VISIBILITY_S

    def __init__(
        self, base: str, credentials: ForgeCredentials, clock: Clock, release: Release, line: Line | None = None
    ) -> None:
        self._line = line or Line()
        self._release = replace(
            release, version=release.version or VERSION, source=(release.source or SOURCE).rstrip("/")
        )
        api = (credentials.api or f"{base}/api/v4").rstrip("/")
        rest = Rest(api, Token(credentials.token), self._line, clock, DIALECT)
        super().__init__(rest)
        scopes = Scopes(rest)
        self._runners, self._jobs = Runners(rest, scopes, clock), Jobs(rest, scopes)
        self._software: dict[str, Software] = {}

    async def register(self, site: Site, order: RunnerOrder) -> Registration:
        return await self._runners.register(site, order)

    async def runners(self, site: Site) -> Sequence[Runner]:
        return await self._runners.runners(site)

    async def remove(self, site: Site, forge_id: str, name: str) -> None:
        await self._runners.remove(site, forge_id, name)

    async def queued(self, site: Site) -> Sequence[CiJob]:
        return await self._jobs.queued(site)

    async def job(self, site: Site, repository: str, job_id: str) -> CiJob | None:
        return await self._jobs.job(site, repository, job_id)

    async def taken(self, site: Site, given: Given) -> CiJob | None:
        return await self._jobs.taken(site, given)

    async def rerun(self, site: Site, job: CiJob) -> None:
        await self._jobs.rerun(site, job)

    async def software(self, site: Site, system: str, machine: str) -> Software:
        """One program, no archive. Its release has a list of all sha256s at the top."""
        name = f"{NAME}-{checksums.platform(system, machine)}"
        if name not in self._software:
            place = f"{self._release.source}/v{self._release.version}"
            pinned = self._release.pinned(machine)
            sha256 = pinned or await checksums.published(self._line, f"{place}/release.sha256", name)
            url = f"{place}/binaries/{name}"
            self._software[name] = Software(NAME, self._release.version, url, sha256)
        return self._software[name]

    async def close(self) -> None:
        await self._runners.close()
        await self._line.close()
