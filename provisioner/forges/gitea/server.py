"""What a Gitea or Forgejo is (which of the two, and of what version), and what a site's path is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from provisioner.domain.errors import ForgeRefused, ForgeUnreachable
from provisioner.domain.forge import Site

from ..rest import Rest

API = "/api/v1"
PAGE = "50"  # Source: MAX_RESPONSE_ITEMS of both by default, 2026
_MOST_PAGES = 2000
_PASSES = 3
_VERSION = re.compile(r"(\d+)\.(\d+)")


class Token:
    def __init__(self, token: str) -> None:
        self._token = token

    async def headers(self) -> Mapping[str, str]:
        return {"authorization": f"token {self._token}"}

    def refused(self) -> None:
        """There is no other."""


@dataclass(frozen=True, slots=True)
class Version:
    """A Forgejo tells its own version and, behind +gitea-, the Gitea whose API it began with."""

    number: tuple[int, int]
    forgejo: bool


class Server:
    """Asked once, then known."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._version: Version | None = None
        self._scopes: dict[str, str] = {}

    async def version(self, *, removal: bool = False) -> Version:
        if self._version is None:
            answer = await self._rest.call("GET", f"{API}/version", removal=removal)
            text = str((answer.body or {}).get("version", ""))
            found = _VERSION.match(text)
            if not found:
                raise ForgeUnreachable(f"no Gitea or Forgejo answers there: its version is {text[:40]!r}")
            self._version = Version((int(found[1]), int(found[2])), "+gitea-" in text)
        return self._version

    async def scope(self, site: Site, *, removal: bool = False) -> str:
        """Where the API has the site's runners and jobs: /api/v1/repos/OWNER/NAME/actions and the like."""
        if site.path not in self._scopes:
            self._scopes[site.path] = await self._asked(site.path, removal)
        return self._scopes[site.path]

    async def _asked(self, path: str, removal: bool) -> str:
        if not path:
            return f"{API}/admin/actions"
        if "/" in path:
            return f"{repository(path)}/actions"
        org = f"{API}/orgs/{quote(path, safe='')}"
        if (await self._rest.call("GET", org, expect=(404,), removal=removal)).status == 200:
            return f"{org}/actions"
        me = await self._rest.call("GET", f"{API}/user", removal=removal)
        if str(me.body.get("login", "")).lower() == path.lower():
            return f"{API}/user/actions"
        raise ForgeRefused(
            f"{path} is neither an organisation there nor the token's own user", hint="or the token may not see it"
        )


def repository(path: str) -> str:
    """A repository's place in the API. Raises: ForgeRefused."""
    owner, _, name = path.partition("/")
    if not owner or not name or "/" in name:
        raise ForgeRefused(f"{path[:120]!r} is not a repository", hint="OWNER/NAME")
    return f"{API}/repos/{quote(owner, safe='')}/{quote(name, safe='')}"


async def numbered(
    rest: Rest, path: str, key: str, query: Mapping[str, str] | None = None, *, removal: bool = False
) -> list[dict[str, Any]]:
    """All of a listing that says how many things it has, and not always where its next page is.

    One that changes while it is read is read again; what any reading found counts. Raises: ForgeError."""
    found: dict[int, dict[str, Any]] = {}
    for _ in range(_PASSES):
        items, calm = await _once_through(rest, path, key, dict(query or {}), removal)
        found |= {int(item["id"]): item for item in items}
        if calm:
            return items
    return list(found.values())


async def _once_through(
    rest: Rest, path: str, key: str, query: dict[str, str], removal: bool
) -> tuple[list[dict[str, Any]], bool]:
    items: list[dict[str, Any]] = []
    totals: set[int] = set()
    for number in range(1, _MOST_PAGES):
        answer = await rest.call("GET", path, query={**query, "page": str(number), "limit": PAGE}, removal=removal)
        page = answer.body.get(key) if key and isinstance(answer.body, dict) else answer.body
        if not isinstance(page, list) or answer.total is None:
            raise ForgeUnreachable(f"GET {path}: a page is not a list with a total", hint="is its version supported?")
        items += page
        totals.add(answer.total)
        if not page or len(items) >= answer.total:
            return items, totals == {len({int(item["id"]) for item in items})}
    raise ForgeUnreachable(f"GET {path}: more than {_MOST_PAGES} pages", hint="its pages never end")
