"""What Gitea and Forgejo do each in their own way. `scope` is a place such as /api/v1/repos/OWNER/NAME/actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from provisioner.domain.forge import CiJob, Given, Registration, Runner, RunnerOrder, Site


class Dialect(Protocol):
    program: str
    version: str
    source: str

    async def make(self, scope: str, order: RunnerOrder) -> Registration:
        """An ephemeral runner of that name, whatever others there are. Raises: ForgeError."""
        ...

    async def listed(self, scope: str, *, removal: bool = False) -> list[dict[str, Any]]: ...
    async def told(self, scope: str, listed: Sequence[dict[str, Any]]) -> Sequence[Runner]: ...
    async def remove(self, scope: str, forge_id: str, *, removal: bool) -> None:
        """Raises: RunnerBusy."""
        ...

    async def queued(self, site: Site, scope: str) -> Sequence[CiJob]: ...
    async def job(self, site: Site, repository: str, job_id: str) -> CiJob | None: ...
    async def taken(self, site: Site, given: Given) -> CiJob | None: ...
    async def rerun(self, site: Site, job: CiJob) -> None: ...
    def file(self, platform: str, version: str) -> str:
        """Where the program is below its source, for such as linux-amd64; its sha256 is beside it, in .sha256."""
        ...
