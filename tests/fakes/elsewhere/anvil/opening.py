"""How an Anvil is opened, in memory, and how its webhooks are read."""

from __future__ import annotations

from collections.abc import Mapping

from provisioner.domain.errors import ForgeUnauthorized
from provisioner.domain.forge import Delivery, ForgeCredentials, Release, Site
from provisioner.domain.ports import Clock
from tests.fakes.open_forge import FakeForges, OpenForge

from .steps import KIND

_WORLD = FakeForges({"anv-secret": {"acme/bell"}})


def open_forge(base: str, credentials: ForgeCredentials, clock: Clock, release: Release) -> OpenForge:
    return _WORLD.open(KIND, base, credentials, clock, release)


def delivery(site: Site, headers: Mapping[str, str], body: bytes, secret: str) -> Delivery:
    if headers.get("x-anvil-secret") != secret:
        raise ForgeUnauthorized("a webhook without the right X-Anvil-Secret")
    return Delivery(headers["x-anvil-number"], "strike")
