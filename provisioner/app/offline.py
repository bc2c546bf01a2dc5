"""What works without a running controller: database chores under the home's lock, and collecting what has expired."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from provisioner.bootstrap.bundle import agent_bundle
from provisioner.domain.abilities import HasLeftovers
from provisioner.domain.errors import Conflict, InvalidRequest, ProviderError
from provisioner.domain.leftover import Leftover
from provisioner.domain.offer import Machine
from provisioner.domain.ports import Provider
from provisioner.engine.collect import past
from provisioner.forges.registry import known
from provisioner.providers.local import LocalProvider
from provisioner.providers.registry import NAMES
from provisioner.settings import load, secret_key, secret_key_of
from provisioner.store.open import open_store

from .aws import aws_provider
from .clock import SystemClock
from .compose import database_path
from .home import Home
from .kept import reseal


async def collect(
    path: Path, *, dry_run: bool, expired: bool, provider: str = "", but: str = ""
) -> dict[str, list[str]]:
    """What is past its `expires-at`, whoever launched it, on this computer and in the clouds that are enabled or named;
    nothing else without a database. What is of the controller `but` is left to that, which is there. Raises:
    RequestError."""
    if provider and provider not in NAMES:
        raise InvalidRequest(f"unknown provider {provider!r}", hint=f"known: {', '.join(NAMES)}")
    if not expired:
        raise InvalidRequest("without a controller only expired machines can be collected", hint="add --expired")
    home = Home(path)
    home.make()
    settings = load(home.path, os.environ, known())
    local = LocalProvider(
        settings.local.folder(home.path),
        "",
        lambda: agent_bundle(home.cache),
        settings.local.usd_per_hour,
        any_controller=True,
    )
    providers: list[Provider] = [local]
    if settings.aws.enabled or provider == "aws":
        providers.append(aws_provider(settings, SystemClock(), "", home, any_controller=True))
    swept = _Swept(datetime.now(UTC), dry_run, but)
    for one in providers:
        await swept.all_of(one)
    if swept.trouble:
        said = f"{len(swept.ended)} of {len(swept.found)} found were ended; {swept.trouble[0]}"
        raise Conflict(said, hint="run it again")
    return {"found": swept.found, "ended": swept.ended}


class _Swept:
    """What was found past its tag so far, what was ended of it, and what stood in the way. `but` is whose is spared."""

    def __init__(self, now: datetime, dry_run: bool, but: str) -> None:
        self._now = now
        self._dry_run = dry_run
        self._but = but
        self.found: list[str] = []
        self.ended: list[str] = []
        self.trouble: list[str] = []

    async def all_of(self, provider: Provider) -> None:
        """A cloud that cannot be asked at all is told of with the rest."""
        try:
            await self.machines_of(provider)
            if isinstance(provider, HasLeftovers):
                await self.leftovers_of(provider.name, provider)
        except ProviderError as error:
            self.trouble.append(f"{provider.name}: {error.message}")

    async def machines_of(self, provider: Provider) -> None:
        for listing in await provider.machines():
            self._note(provider.name, listing.scope, listing.error)
            for machine in (one for one in listing.machines if self._overdue(one)):
                await self._end(machine.name, lambda m=machine: provider.terminate(m.ref, m.name, m.scope))  # type: ignore[misc]

    async def leftovers_of(self, name: str, cloud: HasLeftovers) -> None:
        for remains in await cloud.leftovers():
            self._note(name, remains.scope, remains.error)
            for leftover in (one for one in remains.found if self._overdue(one)):
                await self._end(leftover.key, lambda one=leftover: cloud.remove(one))  # type: ignore[misc]

    def _overdue(self, one: Machine | Leftover) -> bool:
        return past(one.tags, self._now) and (not self._but or one.controller != self._but)

    def _note(self, provider: str, scope: str, error: str | None) -> None:
        if error:
            self.trouble.append(f"{provider} {scope}: {error}")

    async def _end(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self.found.append(name)
        try:
            if not self._dry_run:
                await work()
                self.ended.append(name)
        except ProviderError as error:
            self.trouble.append(f"{name}: {error.message}")


async def database(action: str, path: Path, file: Path | None) -> str:
    """One chore on the database. `backup` of SQLite is safe while a controller runs; the others take the lock."""
    home = Home(path)
    home.make()
    settings = load(home.path, os.environ, known())
    source = database_path(home, settings)
    match action:
        case "backup":
            return await asyncio.to_thread(_backup, source, file)
        case "restore":
            with home.held():
                return await asyncio.to_thread(_restore, source, file)
        case "upgrade":
            with home.held():
                store = await open_store(
                    settings.store_url or f"sqlite:///{source}", secret_key=secret_key(path, os.environ), home=path
                )
                await store.close()
                return "the database is at this version's schema"
        case "rekey":
            with home.held():
                return await _rekey(home, settings.store_url or f"sqlite:///{source}")
        case _:
            raise InvalidRequest(f"unknown action {action!r}", hint="upgrade, backup, restore or rekey")


def _backup(source: Path | None, target: Path | None) -> str:
    if source is None:
        raise InvalidRequest("backup works on SQLite only", hint="use pg_dump for PostgreSQL")
    if not source.exists():
        raise InvalidRequest(f"there is no database at {source}")
    target = target or source.with_name(f"{source.stem}-{datetime.now(UTC):%Y%m%dT%H%M%S}.backup.db")
    if target.exists():
        raise InvalidRequest(f"{target} is there already", hint="name another file")
    part = target.with_name(target.name + ".part")
    with sqlite3.connect(source) as reading, sqlite3.connect(part) as writing:
        reading.backup(writing)
    part.chmod(0o600)
    part.replace(target)
    return f"backed up to {target}"


def _restore(target: Path | None, backup: Path | None) -> str:
    if target is None or backup is None:
        raise InvalidRequest("restore needs a backup file, and SQLite", hint="runner db restore FILE")
    try:
        with sqlite3.connect(f"file:{backup}?mode=ro", uri=True) as reading:
            (verdict,) = reading.execute("pragma integrity_check").fetchone()
    except sqlite3.DatabaseError as error:
        raise InvalidRequest(f"{backup} is not a database: {error}") from error
    if verdict != "ok":
        raise InvalidRequest(f"{backup} is damaged: {verdict}")
    kept = ""
    if target.exists():
        kept = f"; the old one is kept as {_backup(target, None).removeprefix('backed up to ')}"
    part = target.with_name(target.name + ".part")
    shutil.copyfile(backup, part)
    part.chmod(0o600)
    for leftover in (f"{target}-wal", f"{target}-shm"):
        Path(leftover).unlink(missing_ok=True)
    part.replace(target)
    return f"restored from {backup}{kept}"


async def _rekey(home: Home, url: str) -> str:
    """A new key: from RUNNER_NEW_SECRET_KEY, or made and written to the home's `key` file."""
    new_text = os.environ.get("RUNNER_NEW_SECRET_KEY", "")
    made = not new_text
    new_text = new_text or secrets.token_hex(32)
    old_key, new_key = secret_key(home.path, os.environ), secret_key_of(new_text)
    store = await open_store(url, secret_key=old_key, home=home.path)
    try:
        part = home.path / "key.part"
        if made:
            part.touch(mode=0o600)
            part.write_text(new_text)
        count = await store.records.rekey(new_key)
        await reseal(store.records, old_key, new_key)
        if made:
            part.replace(home.path / "key")
    finally:
        await store.close()
    return f"{count} secrets are under the new key"
