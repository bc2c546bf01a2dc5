"""How a GitHub is opened, how its webhooks are read, and its queues."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import ForgeCredentials, Release, Site
from provisioner.domain.job_queue import JobQueue
from provisioner.domain.ports import Clock

from . import deliveries, scale_set_queue
from .credentials import App, Token
from .forge import GitHub
from .webhooks import delivery as delivery


def open_forge(base: str, credentials: ForgeCredentials, clock: Clock, release: Release) -> GitHub:
    """Raises: InvalidRequest."""
    if credentials.app_id and credentials.private_key:
        return GitHub(
            base, App(credentials.app_id, credentials.private_key), clock, api=credentials.api, release=release
        )
    if not credentials.token:
        raise InvalidRequest(f"{base} needs a token, or an App's id and private key", hint="see the GitHub how-to page")
    return GitHub(base, Token(credentials.token), clock, api=credentials.api, release=release)


async def redeliver(forge: GitHub, since: datetime, url: str, sites: Sequence[Site]) -> Sequence[str]:
    """An App's own hook's deliveries, else those of the hooks at `sites` that lead to `url`. Raises: ForgeError."""
    return await deliveries.redeliver(forge, since, url, () if forge.account.is_app else sites)


async def open_queue(forge: GitHub, site: Site, name: str, group: str, clock: Clock) -> JobQueue:
    """The messages of the runner scale set `name`. Raises: ForgeError."""
    api = await forge.account.at(site)
    return await scale_set_queue.open_queue(forge.scale_sets, api, site, name, group, clock)
