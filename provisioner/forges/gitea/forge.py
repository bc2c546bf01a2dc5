"""A Gitea or a Forgejo behind the Forge and Reviews ports: which of the two it is, it says itself.

The token needs write access to the repository (or the organisation, the user, the administration) whose runners it
makes, and to issues for comments.
"""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.domain.forge import (
    PREFIX,
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
from ..records import Keeper, Records
from ..rest import Rest
from . import secret
from .comments import Comments
from .dialect import Dialect
from .forgejo import Forgejo
from .gitea import Gitea
from .server import API, Server, Token
from .steps import KIND

VISIBILITY_S = 5.0  # arbitrary: one database, whose answers are at once


class GiteaForge(Comments):
    kind = KIND
    visibility_s = VISIBILITY_S

    def __init__(
        self, base: str, credentials: ForgeCredentials, clock: Clock, release: Release, line: Line | None = None
    ) -> None:
        self._line = line or Line()
        self._release = release
        root = (credentials.api or base).rstrip("/").removesuffix(API)
        rest = Rest(root, Token(credentials.token), self._line, clock)
        super().__init__(rest)
        self._server = Server(rest)
        self._gitea, self._forgejo = Gitea(rest, self._server), Forgejo(rest, self._server)
        self._records = Records(clock, VISIBILITY_S)
        self._software: dict[str, Software] = {}

    async def _dialect(self, *, removal: bool = False) -> Dialect:
        return self._forgejo if (await self._server.version(removal=removal)).forgejo else self._gitea

    async def register(self, site: Site, order: RunnerOrder) -> Registration:
        secret.check(order.labels)
        dialect, scope = await self._dialect(), await self._server.scope(site)
        keeper = _keeper(dialect, scope, removal=False)
        return await self._records.make(order.name, keeper, lambda: dialect.make(scope, order))

    async def runners(self, site: Site) -> Sequence[Runner]:
        dialect, scope = await self._dialect(), await self._server.scope(site)
        listed = [one for one in await dialect.listed(scope) if str(one["name"]).startswith(PREFIX)]
        return await dialect.told(scope, listed)

    async def remove(self, site: Site, forge_id: str, name: str) -> None:
        dialect, scope = await self._dialect(removal=True), await self._server.scope(site, removal=True)
        await self._records.drop(name, forge_id, _keeper(dialect, scope, removal=True))

    async def queued(self, site: Site) -> Sequence[CiJob]:
        return await (await self._dialect()).queued(site, await self._server.scope(site))

    async def job(self, site: Site, repository: str, job_id: str) -> CiJob | None:
        return await (await self._dialect()).job(site, repository, job_id)

    async def taken(self, site: Site, given: Given) -> CiJob | None:
        return await (await self._dialect()).taken(site, given)

    async def rerun(self, site: Site, job: CiJob) -> None:
        await (await self._dialect()).rerun(site, job)

    async def software(self, site: Site, system: str, machine: str) -> Software:
        """One program, no archive, with its sha256 in a file beside it."""
        dialect, platform = await self._dialect(), checksums.platform(system, machine)
        if platform not in self._software:
            version = self._release.version or dialect.version
            url = f"{(self._release.source or dialect.source).rstrip('/')}/{dialect.file(platform, version)}"
            pinned = self._release.pinned(machine)
            sha256 = pinned or await checksums.published(self._line, f"{url}.sha256", url.rpartition("/")[2])
            self._software[platform] = Software(dialect.program, version, url, sha256)
        return self._software[platform]

    async def close(self) -> None:
        await self._records.close()
        await self._line.close()


def _keeper(dialect: Dialect, scope: str, *, removal: bool) -> Keeper:
    async def find(name: str) -> list[str]:
        return [str(one["id"]) for one in await dialect.listed(scope, removal=removal) if one["name"] == name]

    return Keeper(find=find, remove=lambda forge_id: dialect.remove(scope, forge_id, removal=removal))
