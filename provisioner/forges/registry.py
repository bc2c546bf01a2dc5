"""Which forges there are: every folder here is one, and declares itself in its `FORGE`. What opens it is imported only
when it is opened."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Protocol, cast

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.extras import installed_by
from provisioner.domain.forge import Delivery, Forge, ForgeCredentials, Release, Reviews, Site
from provisioner.domain.job_queue import JobQueue
from provisioner.domain.kinds import Declared, Kinds
from provisioner.domain.ports import Clock

_NEEDED = {"httpx2": "httpx2", "jwt": "PyJWT"}


class Opened(Forge, Reviews, Protocol):
    """Both ports on one object: who may make runners may say what came of them."""


class Folder(Protocol):
    """What the `opening` module of a forge's folder has."""

    def open_forge(self, base: str, credentials: ForgeCredentials, clock: Clock, release: Release) -> Opened:
        """`base` is the forge's web address. Raises: InvalidRequest, these credentials are of no use there."""
        ...

    def delivery(self, site: Site, headers: Mapping[str, str], body: bytes, secret: str) -> Delivery:
        """A webhook. `site` is the whole forge's; names of headers are in lower case; `body` is as it came.

        Raises: ForgeUnauthorized, it is not the forge's; ForgeRefused, it is not understood."""
        ...


class Redelivering(Protocol):
    """What that module has as well where the forge sends lost webhooks again when asked to."""

    def redeliver(
        self, forge: Opened, since: datetime, url: str, sites: Sequence[Site]
    ) -> Awaitable[Sequence[str]]: ...


class Queueing(Protocol):
    """What that module has as well where the forge keeps a queue of jobs for a pool, by the pool's one label."""

    def open_queue(self, forge: Opened, site: Site, name: str, group: str, clock: Clock) -> Awaitable[JobQueue]: ...


@cache
def known() -> Kinds:
    """Those that have a folder here."""
    return Kinds(declared_in(Path(__file__).parent, "provisioner.forges"))


def declared_in(folder: Path, package: str) -> list[Declared]:
    """What the folders in it declare; it is imported as `package`."""
    names = [one.name for one in iter_modules([str(folder)]) if one.ispkg]
    return [import_module(f"{package}.{name}").FORGE for name in names]


def queueing(declared: Declared) -> Queueing | None:
    """None where the forge does not."""
    return cast("Queueing", folder(declared)) if declared.scale_sets else None


def redelivering(declared: Declared) -> Redelivering | None:
    """None where the forge cannot."""
    return cast("Redelivering", folder(declared)) if declared.redelivers else None


def folder(declared: Declared) -> Folder:
    """Raises: InvalidRequest."""
    for module, package in _NEEDED.items():  # which are imported no sooner than they are used
        if find_spec(module) is None:
            raise InvalidRequest(f"forges need {package}, which is not installed", hint=installed_by("forges"))
    return cast("Folder", import_module(declared.opening))


def open_forge(
    declared: Declared, base: str, credentials: ForgeCredentials, clock: Clock, release: Release | None = None
) -> Opened:
    """Raises: InvalidRequest."""
    return folder(declared).open_forge(base, credentials, clock, release or Release())
