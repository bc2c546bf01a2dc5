"""Credentials that commands hand over to an embedded controller, whose own environment has none.

In: what a command resolved where it was typed. Who that is, is asked of the cloud; then it is held in memory, the
provider comes to be if it was not there, and whatever waited for it goes on. Only the identity is written down, so that
after a restart it is known whose machines there are.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from provisioner.domain.credentials import Credentials, Identity, Keys, Taken
from provisioner.domain.errors import Conflict, InvalidRequest, NotFound, ProviderError, Unauthorized
from provisioner.domain.job import Instance, InstancePhase
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Provider
from provisioner.domain.store import Event, Records, Store

from .held import Held

_LOOK_S = 5.0  # how soon an end that nobody announced is recorded; arbitrary
_MARGIN_S = 120.0  # what is left for typing the command again; arbitrary
_UNKNOWN = "they are temporary and do not say until when; when they end, the provider is paused"


@dataclass(frozen=True, slots=True)
class Cloud:
    """One that can be opened. `identify` asks it whose credentials these are; `make` its provider, which uses `Keys`;
    `needs` names the keys that there must be; `enabled` and `profile` are the settings' words."""

    identify: Callable[[Credentials], Awaitable[Identity]]
    make: Callable[[Keys], Provider]
    needs: tuple[str, ...]
    enabled: bool = False
    profile: str = ""


class Keyring:
    """The Keyring port. `providers` is the engine's own mapping, to which a cloud is added once it is used;
    `resume(name)` is called when one can be used again."""

    def __init__(
        self,
        clouds: dict[str, Cloud],
        providers: dict[str, Provider],
        store: Store,
        clock: Clock,
        policy: Policy,
        resume: Callable[[str], None],
    ) -> None:
        self._clouds = clouds
        self._providers = providers
        self._store = store
        self._clock = clock
        self._policy = policy
        self._resume = resume
        self._held = {name: Held(name, clock, self._look_soon) for name in clouds}
        self._known: dict[str, Identity] = {}
        self._said: dict[str, str] = {}
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Before the engine starts: what was used before, or is enabled, is there at once, and paused."""
        used = {instance.offer.provider for instance in await self._store.instances.find()}
        for name, cloud in self._clouds.items():
            if (known := await launched_by(self._store.records, name)) is not None:
                self._known[name] = known
            if cloud.enabled or name in self._known or name in used:
                self._bring(name)

    @property
    def paused(self) -> dict[str, str]:
        """Why each provider that is used can be asked nothing now."""
        found = {name: held.paused for name, held in self._held.items() if name in self._providers}
        return {name: why for name, why in found.items() if why}

    def wanted(self) -> dict[str, Any]:
        """For commands, by provider: what the settings say of it, whose credentials are in use, until when."""
        return {name: self._described(name) for name in self._clouds}

    async def take(self, provider: str, credentials: Credentials, *, same: bool = False) -> Taken:
        cloud, held = self._clouds.get(provider), self._held.get(provider)
        if cloud is None or held is None:
            raise NotFound(f"no cloud {provider[:40]!r}", hint=f"known: {', '.join(self._clouds)}")
        if missing := [name for name in cloud.needs if not credentials.keys.get(name)]:
            raise InvalidRequest(f"credentials of {provider} lack {missing[0]}")
        if credentials.expires_at is not None and credentials.expires_at <= self._clock.now():
            raise Conflict(f"these credentials of {provider} have expired; nothing was kept", hint="log in again")
        async with self._turn:
            if (identity := held.whose(credentials)) is None:
                identity = await self._identified(provider, cloud, credentials)
            first, notes = await self._compare(provider, identity, same)
            if credentials.temporary and credentials.expires_at is None:
                notes = (*notes, f"of the credentials of {provider}: {_UNKNOWN}")
            was_shut = provider not in self._providers or bool(held.paused)
            held.hold(identity, credentials)
            self._bring(provider)
        if was_shut:
            self._resume(provider)
        self._changed.set()
        return Taken(identity, credentials.expires_at, first, notes)

    def too_short(self, provider: str, lifetime_s: float) -> tuple[str, str] | None:
        held = self._held.get(provider)
        try:
            until = held.until if held is not None else None
        except Unauthorized:
            return None  # paused: the job waits, and says so
        if until is None:
            return None
        left_s = (until - self._clock.now()).total_seconds() - self._policy.drain_s
        if left_s >= lifetime_s:
            return None
        fits_min = int((left_s - _MARGIN_S) // 60)
        shorter = f"add --max-lifetime {fits_min}m, or " if fits_min >= 1 else ""
        said = f"the credentials of {provider} end at {until:%H:%M} UTC, its machine would after {_span(lifetime_s)}"
        return said, f"{shorter}log in for longer ones"

    async def watch(self) -> None:
        """Look whenever something may have changed."""
        while True:
            self._changed.clear()
            await self.look()
            await self._until_it_may_change(self._clock.now())

    async def look(self) -> None:
        """An event for each provider that has come to be paused since the last look, or goes on."""
        now, paused = self._clock.now(), self.paused
        news = {name: why for name, why in paused.items() if self._said.get(name) != why}
        for name, why in news.items():
            await self._store.records.record(Event("provider.paused", now, why, data={"provider": name}))
        for name in self._said.keys() - paused.keys():
            said = f"{name} goes on"
            await self._store.records.record(Event("provider.resumed", now, said, data={"provider": name}))
        self._said = paused

    async def _until_it_may_change(self, now: datetime) -> None:
        """At the next end, or when something is handed over; who never uses a cloud is never woken."""
        ends = [held.until for name, held in self._held.items() if name in self._providers and not held.paused]
        soonest_s = min(((end - now).total_seconds() for end in ends if end is not None), default=None)
        timeout_s = None if soonest_s is None else max(0.0, min(soonest_s, _LOOK_S))
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return

    async def _identified(self, provider: str, cloud: Cloud, credentials: Credentials) -> Identity:
        try:
            return await cloud.identify(credentials)
        except ProviderError as error:
            hint = error.hint if not isinstance(error, Unauthorized) else "log in again, or name another profile"
            raise Conflict(f"{provider} was not opened: {error.message}; nothing was kept", hint=hint) from error

    async def _compare(self, provider: str, identity: Identity, same: bool) -> tuple[bool, tuple[str, ...]]:
        """Whether the account is a new one, and what to say. Raises: Conflict while another one's machines live: listed
        with the wrong account's credentials they would look absent."""
        known = self._known.get(provider)
        machines = [one for one in await self._store.instances.find() if _asked_for(one, provider)]
        if known is not None and (machines or same) and known.account != identity.account:
            raise Conflict(
                f"the {provider} machines of this controller ({len(machines)} now) are of {known}, "
                f"and these credentials are of {identity}; nothing was changed",
                hint="use those of that account, or another RUNNER_HOME",
            )
        if known is not None and machines and known != identity:
            return False, (f"these are credentials of {identity}; the {provider} machines are of {known.name}",)
        if known != identity:
            await note_launches(self._store.records, provider, identity)
            self._known[provider] = identity
        return known is None or known.account != identity.account, ()

    def _bring(self, name: str) -> None:
        if name not in self._providers:
            self._providers[name] = self._clouds[name].make(self._held[name])

    def _described(self, name: str) -> dict[str, Any]:
        cloud, held = self._clouds[name], self._held[name]
        known, in_use = self._known.get(name), held.identity
        until = held.until if in_use is not None else None
        return {
            "enabled": cloud.enabled,
            "profile": cloud.profile,
            "used": name in self._providers,
            "launched_by": asdict(known) if known else None,
            "in_use": asdict(in_use) if in_use else None,
            "expires_at": until.isoformat() if until else None,
        }

    def _look_soon(self) -> None:
        self._loop.call_soon_threadsafe(self._changed.set)


async def launched_by(records: Records, provider: str) -> Identity | None:
    """Whose the machines of this database are."""
    recorded = await records.meta(f"identity.{provider}")
    return Identity(**json.loads(recorded)) if recorded else None


async def note_launches(records: Records, provider: str, identity: Identity) -> None:
    """From now on machines are of this identity."""
    await records.set_meta(f"identity.{provider}", json.dumps(asdict(identity)))


def _asked_for(instance: Instance, provider: str) -> bool:
    return instance.offer.provider == provider and instance.phase is not InstancePhase.PLANNED


def _span(seconds: float) -> str:
    hours = timedelta(seconds=min(seconds, 1e9)).total_seconds() / 3600
    return f"{hours:.3g} h" if hours >= 1 else f"{hours * 60:.3g} min"
