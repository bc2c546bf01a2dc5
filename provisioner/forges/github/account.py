"""Which identity asks at which site, each with its budget: one for a token; for an App itself, and each installation.

Installations are found by the site and remembered by its owner's name, since an App is installed for an owner.
"""

from __future__ import annotations

import re
from datetime import datetime

from provisioner.domain.errors import ForgeUnauthorized
from provisioner.domain.forge import Site
from provisioner.domain.ports import Clock

from ..budget import Rate
from ..line import Line
from ..rest import Dialect, Identity, Rest
from .addresses import api_of, below
from .credentials import App, Fixed, Installation, Signed, Token

REGISTRATION = "actions_runner_registration"
_PLACE = re.compile(r"^/(repos/[^/]+/[^/]+|orgs/[^/]+|enterprises/[^/]+)|/\d+(?=/|$)")


# Source: GitHub REST rate limits, 2026: 900 points a minute at one endpoint, of which a read costs 1 and anything else
# 5, so that 180 runners a minute may be registered. A hundredth is left for others who use the same identity.
READS, WRITES = Rate(890), Rate(178)


def endpoint(method: str, path: str) -> tuple[str, Rate]:
    """The same for all sites and numbers: GitHub counts what is asked, wherever."""
    place = _PLACE.sub(lambda found: "/{site}" if found[1] else "/{id}", path)
    return f"{method} {place}", READS if method == "GET" else WRITES


DIALECT = Dialect(endpoint=endpoint)


class Account:
    """The credential that a forge was opened with, at one GitHub."""

    def __init__(self, base: str, credential: App | Token, clock: Clock, line: Line, api: str = "") -> None:
        self._api = api.rstrip("/") or api_of(base)
        self._credential = credential
        self._clock = clock
        self._line = line
        self._installations: dict[str, Rest] = {}
        self._user: tuple[int | None] | None = None
        own = Fixed(credential) if isinstance(credential, Token) else Signed(credential, clock)
        self.own = self._rest(own)

    @property
    def is_app(self) -> bool:
        return isinstance(self._credential, App)

    async def at(self, site: Site) -> Rest:
        """Raises: ForgeError; ForgeUnauthorized when the App is not installed there."""
        if not self.is_app:
            return self.own
        owner = site.path.removeprefix("enterprises/").partition("/")[0].lower()
        if owner not in self._installations:
            answer = await self.own.call("GET", f"{below(site)}/installation", expect=(404,), removal=True)
            if answer.status == 404:
                hint = "install it there, with the permissions of the how-to page"
                raise ForgeUnauthorized(f"{self._credential!r} is not installed at {site.url}", hint=hint)
            self._installations[owner] = self._rest(self._installed(owner, int(answer.body["id"])))
        return self._installations[owner]

    async def user_id(self) -> int | None:
        """None for an App, a workflow's own token too, which may not ask who it is. Raises: ForgeError.

        Source: GitHub REST, "Get the authenticated user", 2026: not for installation tokens, which are answered 403."""
        if self._user is None and not self.is_app:
            answer = await self.own.call("GET", "/user", expect=(403,))
            self._user = (None if answer.status == 403 else int(answer.body["id"]),)
        return self._user[0] if self._user else None

    def _installed(self, owner: str, number: int) -> Installation:
        async def fetch() -> tuple[str, datetime]:
            path = f"/app/installations/{number}/access_tokens"
            answer = await self.own.call("POST", path, expect=(404,), removal=True)
            if answer.status == 404:
                self._installations.pop(owner, None)
                raise ForgeUnauthorized(
                    f"{self._credential!r} is not installed at {owner} any more", hint="install it again"
                )
            return str(answer.body["token"]), datetime.fromisoformat(answer.body["expires_at"])

        return Installation(fetch, self._clock)

    def _rest(self, identity: Identity) -> Rest:
        return Rest(self._api, identity, self._line, self._clock, DIALECT)
