"""What a site's path is at a GitLab: a project, a group, or (an empty path) the instance. Asked once, then known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from provisioner.domain.errors import ForgeRefused
from provisioner.domain.forge import Site

from ..rest import Rest


def project(path: str) -> str:
    """A project's place in the API."""
    return f"/projects/{quote(path, safe='')}"


@dataclass(frozen=True, slots=True)
class Scope:
    """`kind` is the type that its runners have; `id` its number, 0 for the instance."""

    kind: str
    id: int
    path: str

    @property
    def runners(self) -> str:
        """Where its runners are listed, those of others left out by asking for its own `kind`."""
        place = {"project_type": f"/projects/{self.id}/runners", "group_type": f"/groups/{self.id}/runners"}
        return place.get(self.kind, "/runners/all")

    @property
    def owner(self) -> dict[str, int]:
        name = {"project_type": "project_id", "group_type": "group_id"}.get(self.kind)
        return {name: self.id} if name else {}


class Scopes:
    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._known: dict[str, Scope] = {}

    async def of(self, site: Site, *, removal: bool = False) -> Scope:
        """Raises: ForgeError."""
        if site.path not in self._known:
            self._known[site.path] = await self._asked(site.path, removal)
        return self._known[site.path]

    async def _asked(self, path: str, removal: bool) -> Scope:
        if not path:
            return Scope("instance_type", 0, "")
        places = (("project_type", project(path)), ("group_type", f"/groups/{quote(path, safe='')}"))
        for kind, place in places:
            query = {"with_projects": "false"} if kind == "group_type" else None
            found = await self._rest.call("GET", place, query=query, expect=(404,), removal=removal)
            if found.status == 200:
                return Scope(kind, int(found.body["id"]), path)
        raise ForgeRefused(
            f"{path} is neither a project nor a group there", hint="or the token may not see it: it needs the api scope"
        )

    async def projects(self, scope: Scope) -> list[tuple[int, str]]:
        """Number and path of every project whose jobs the site's runners could be given."""
        if scope.kind == "project_type":
            return [(scope.id, scope.path)]
        query = {"archived": "false", "per_page": "100", "order_by": "id", "sort": "asc"}
        if scope.kind == "group_type":
            listed = await self._rest.pages(f"/groups/{scope.id}/projects", {**query, "include_subgroups": "true"})
        else:
            listed = await self._rest.pages("/projects", {**query, "pagination": "keyset"})
        return [(int(one["id"]), str(one["path_with_namespace"])) for one in listed if _has_jobs(one)]


def _has_jobs(told: dict[str, Any]) -> bool:
    return bool(told.get("jobs_enabled", True)) and told.get("builds_access_level") != "disabled"
