"""The Forges port: every forge that this controller has rights at, each opened when it is first needed.

Rights come from `forges:` of the settings, or from a command, which hands an embedded controller what its own
environment has. Those live in memory alone: after a restart the site is in trouble until they are handed over again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from provisioner.domain.errors import (
    Conflict,
    ForgeError,
    ForgeRefused,
    ForgeThrottled,
    ForgeUnauthorized,
    ForgeUnreachable,
    InvalidRequest,
)
from provisioner.domain.forge import Forge, ForgeCredentials, ForgeKind, Release, Site
from provisioner.domain.job_queue import JobQueue
from provisioner.domain.kinds import Kinds
from provisioner.domain.ports import Clock
from provisioner.forge_settings import ForgeSettings
from provisioner.forges.registry import Opened, known, open_forge, queueing, redelivering

Opener = Callable[[ForgeKind, str, ForgeCredentials, Clock, Release], Forge]
_NONE = "this controller has no rights at {}"
_LOST = "no rights at {} were handed over since the controller started, which keeps them in memory only"


@dataclass
class _Open:
    credentials: ForgeCredentials
    forge: Forge


class OpenForges:
    """The Forges and the ForgeKeyring ports. `resume(sites)` is called when these can be asked again."""

    def __init__(
        self,
        settings: Sequence[ForgeSettings],
        home: Path,
        environment: Mapping[str, str],
        clock: Clock,
        *,
        handed: bool = False,
        opener: Opener | None = None,
        kinds: Kinds | None = None,
    ) -> None:
        self._settings = {one.url: one for one in settings}
        self._home = home
        self._environment = environment
        self._clock = clock
        self._takes = handed
        self._kinds = known() if kinds is None else kinds
        self._opener = opener or self._open
        self._own: dict[str, _Open] = {}
        self._handed: dict[Site, _Open] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.resume: Callable[[Site], None] = lambda site: None

    # The Forges port

    def of(self, site: Site) -> Forge:
        return self._at(site).forge

    def _at(self, site: Site) -> _Open:
        if (found := self._handed.get(site)) is not None:
            return found
        if (ours := self._of_settings(site.base)) is not None:
            return ours
        if (other := next((one for known, one in self._handed.items() if known.base == site.base), None)) is not None:
            return other
        if self._takes:
            hint = f"`runner launch --repo {site.url}` hands over the token of its environment"
            raise ForgeUnauthorized(_LOST.format(site.host), hint=hint)
        raise ForgeUnauthorized(_NONE.format(site.host), hint=self._lacking(site.base))

    def preinstalled(self, site: Site) -> tuple[str, ...]:
        known = self._settings.get(site.base)
        return known.preinstalled if known else ()

    async def redeliver(self, site: Site, since: datetime, url: str, sites: Sequence[Site]) -> Sequence[str]:
        """Webhooks to `url` that did not arrive are sent again: their ids. Raises: ForgeError."""
        able, held = redelivering(self._kinds.of(site.kind)), self._of_settings(site.base)
        if able is None or held is None:
            return ()
        return await able.redeliver(cast("Opened", held.forge), since, url, sites)

    async def open_queue(self, site: Site, name: str, group: str) -> JobQueue:
        """Of the jobs that ask for the label `name` there. Raises: ForgeError."""
        if (able := queueing(self._kinds.of(site.kind))) is None:
            raise ForgeRefused(f"{site.host} keeps no queue of jobs", hint="leave scale_set out")
        return await able.open_queue(cast("Opened", self._at(site).forge), site, name, group, self._clock)

    # The ForgeKeyring port

    def wanted(self) -> dict[str, Any]:
        """For commands, by the forge's address: its kind, whether it is opened, the variable that would open it."""
        found = {site.base: {"kind": str(site.kind), "opened": True, "variable": ""} for site in self._handed}
        for url, one in self._settings.items():
            opened = self._readable(one) or url in found
            found[url] = {"kind": one.kind, "opened": opened, "variable": one.token_env}
        return found

    async def take(self, site: Site, credentials: ForgeCredentials) -> None:
        """They have to open the site. Raises: Conflict, having kept nothing."""
        same = next((o for s, o in self._handed.items() if s.base == site.base and o.credentials == credentials), None)
        try:
            opened = same or self._made(site.kind, site.base, credentials)
        except ForgeError as error:
            raise _not_opened(site, error) from error
        try:
            await opened.forge.runners(site)
        except ForgeError as error:
            if same is None:
                await opened.forge.close()
            raise _not_opened(site, error) from error
        before = self._handed.pop(site, None)
        self._handed[site] = opened
        if before is not None and before not in self._handed.values():
            self._close_later(before)
        self.resume(site)

    # Opening and closing

    def _of_settings(self, base: str) -> _Open | None:
        """Files are looked at each time, so that a token can be changed in place. None: they have nothing to give."""
        known = self._settings.get(base)
        if known is None or not self._readable(known):
            return None
        try:
            credentials = self._read(known)
        except OSError as error:
            raise ForgeUnauthorized(f"cannot read {error.filename}: {error.strerror}", hint="see `forges:`") from error
        held = self._own.get(base)
        if held is None or held.credentials != credentials:
            if held is not None:
                self._close_later(held)
            held = self._own[base] = self._made(ForgeKind(known.kind), base, credentials)
        return held

    def _readable(self, known: ForgeSettings) -> bool:
        return bool(known.app_id or known.token_file or self._environment.get(known.token_env, "").strip())

    def _read(self, known: ForgeSettings) -> ForgeCredentials:
        if known.app_id:
            return ForgeCredentials(app_id=known.app_id, private_key=self._text(known.private_key_file), api=known.api)
        token = self._text(known.token_file) if known.token_file else self._environment[known.token_env]
        return ForgeCredentials(token=token.strip(), api=known.api)

    def _text(self, name: str) -> str:
        return (self._home / Path(name).expanduser()).read_text()

    def _made(self, kind: ForgeKind, base: str, given: ForgeCredentials) -> _Open:
        credentials, known = given, self._settings.get(base)
        release = Release(known.runner_version, known.runner_url, known.runner_sha256) if known else Release()
        if known is not None and known.api and not credentials.api:
            credentials = replace(credentials, api=known.api)
        try:
            forge = self._opener(kind, base, credentials, self._clock, release)
        except InvalidRequest as error:
            raise ForgeUnauthorized(error.message, hint=error.hint) from error
        return _Open(given, forge)

    def _open(self, kind: ForgeKind, base: str, credentials: ForgeCredentials, clock: Clock, release: Release) -> Forge:
        return open_forge(self._kinds.of(kind), base, credentials, clock, release)

    def _lacking(self, base: str) -> str:
        known = self._settings.get(base)
        if known is None:
            return "put it under `forges:` of its settings"
        return f"set {known.token_env}" if known.token_env else "name a token_file under `forges:` of its settings"

    def _close_later(self, held: _Open) -> None:
        """Calls that are under way with it end first, or by their own time-out."""

        async def close() -> None:
            await self._clock.sleep(60.0)
            await held.forge.close()

        task = asyncio.get_running_loop().create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        for task in self._closing:
            task.cancel()
        every = [*self._own.values(), *{id(one): one for one in self._handed.values()}.values()]
        for held in every:
            await held.forge.close()


def _not_opened(site: Site, error: ForgeError) -> Conflict:
    if isinstance(error, ForgeUnreachable | ForgeThrottled):
        return Conflict(f"{site.host} could not be asked: {error.message}; nothing was kept", hint="try again later")
    return Conflict(f"{site} was not opened: {error.message}; nothing was kept", hint=error.hint)
