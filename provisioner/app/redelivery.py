"""Forges that are asked to send again the webhooks that did not arrive: those whose webhooks are expected."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from provisioner.domain.demand import Redelivers
from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.kinds import Kinds
from provisioner.domain.pools import Pool
from provisioner.settings import Settings

from .forges import OpenForges
from .webhooks import hook_name


class _OfForge:
    """The Redelivers port of one forge."""

    def __init__(self, forges: OpenForges, site: Site, urls: Sequence[str], sites: Sequence[Site]) -> None:
        self._forges = forges
        self._site = site
        self._urls = urls
        self._sites = sites

    async def redeliver(self, since: datetime) -> Sequence[str]:
        again: dict[str, None] = {}
        for url in self._urls:
            again |= dict.fromkeys(await self._forges.redeliver(self._site, since, url, self._sites))
        return tuple(again)


def redelivers(settings: Settings, pools: Sequence[Pool], forges: OpenForges, kinds: Kinds) -> dict[str, Redelivers]:
    """By host. Without a `public_url` nobody knows where a forge sends them."""
    found: dict[str, Redelivers] = {}
    for one in settings.forges:
        site = Site(ForgeKind(one.kind), one.url, "")
        ours = [at for pool in pools for at in pool.sites if at.base == site.base]
        if one.webhook_secret_file and settings.public_url and ours and kinds.of(one.kind).redelivers:
            hook = f"{settings.public_url}/hooks/{one.kind}"
            urls = (hook, f"{hook}/{hook_name(site)}")
            if one.app_id:  # it has a hook of its own, one for all sites, and no right to look at theirs
                found[site.host] = _OfForge(forges, site, urls[:1], ())
            else:
                found[site.host] = _OfForge(forges, site, urls, tuple(dict.fromkeys(ours)))
    return found
