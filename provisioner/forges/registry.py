"""Which forges there are: one line each. A forge's folder is imported only when it is opened."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.extras import installed_by
from provisioner.domain.forge import Delivery, Forge, ForgeCredentials, ForgeKind, Release, Reviews, Site
from provisioner.domain.job_queue import JobQueue
from provisioner.domain.ports import Clock

FOLDERS = {
    ForgeKind.GITHUB: "github",
    ForgeKind.GITLAB: "gitlab",
    ForgeKind.GITEA: "gitea",
}

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


def queueing(kind: ForgeKind) -> Queueing | None:
    """None where the forge does not."""
    found = folder(kind)
    return cast("Queueing", found) if hasattr(found, "open_queue") else None


def redelivering(kind: ForgeKind) -> Redelivering | None:
    """None where the forge cannot."""
    found = folder(kind)
    return cast("Redelivering", found) if hasattr(found, "redeliver") else None


def folder(kind: ForgeKind) -> Folder:
    """Raises: InvalidRequest."""
    if kind not in FOLDERS:
        raise InvalidRequest(f"{kind} is not a forge that this controller can speak to", hint=", ".join(FOLDERS))
    for module, package in _NEEDED.items():  # which are imported no sooner than they are used
        if find_spec(module) is None:
            raise InvalidRequest(f"forges need {package}, which is not installed", hint=installed_by("forges"))
    return cast("Folder", import_module(f".{FOLDERS[kind]}.opening", __package__))


def open_forge(
    kind: ForgeKind, base: str, credentials: ForgeCredentials, clock: Clock, release: Release | None = None
) -> Opened:
    """Raises: InvalidRequest."""
    return folder(kind).open_forge(base, credentials, clock, release or Release())
