"""`runner offers` where no controller runs: what this home's files say, and their renewal from the cloud's own API.

Nothing is asked of any cloud for a list. What only a controller knows, refused capacity and quotas, is not in it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from provisioner.bootstrap.bundle import agent_bundle
from provisioner.domain.errors import InvalidRequest, Unreachable
from provisioner.domain.job import Need
from provisioner.domain.offer import Offer
from provisioner.domain.place import place
from provisioner.forges.registry import known
from provisioner.providers.aws.provider import offered
from provisioner.providers.aws.refresh import Answers, merged, read
from provisioner.providers.local import LocalProvider
from provisioner.providers.registry import NAMES
from provisioner.settings import Settings, load
from provisioner.web.shape import adapter, rungs

from .aws import aws_account, aws_options, latest
from .clock import SystemClock
from .home import Home

_OFF = "AWS is not enabled in the settings: aws.enabled"


async def listed(path: Path, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All of this computer and of the catalogues, enabled or not. Raises: InvalidRequest."""
    need: Need = adapter(Need).validate_python(asked)
    for name in need.providers:
        _check(name)
    home = Home(path)
    home.make()
    settings = load(home.path, os.environ, known())
    now = datetime.now(UTC)
    offers: list[Offer] = []
    if not need.providers or "local" in need.providers:
        local = LocalProvider(
            settings.local.folder(home.path), "", lambda: agent_bundle(home.cache), settings.local.usd_per_hour
        )
        offers += await local.offers(need)
    if not need.providers or "aws" in need.providers:
        offers += offered(latest(home), aws_options(settings), need)
    excluded = {} if settings.aws.enabled else {"aws": _OFF}
    return rungs(place(need, offers, (), now, cap_usd_per_hour=settings.max_usd_per_hour, excluded=excluded), now)


async def refreshed(path: Path, provider: str) -> list[dict[str, Any]]:
    """What was read of each region, and what not. Raises: InvalidRequest, ProviderError when nothing was read."""
    home = Home(path)
    home.make()
    settings = load(home.path, os.environ, known())
    _check_named(provider, settings)
    clock = SystemClock()
    account = aws_account(settings, clock)
    regions = settings.aws.regions or await account.enabled_regions()
    now = clock.now()
    answers = await asyncio.gather(*(read(account, region, now) for region in regions))
    if all(len(one.failed) == Answers.QUESTIONS for one in answers):
        first = next((why for one in answers for why in one.failed.values()), "there is no region to ask")
        raise Unreachable(f"nothing was read, and what was known is kept: {first}")
    catalogues = latest(home)
    catalogues.replace(merged(catalogues.catalog, answers, now), now)
    return [_told(one) for one in answers]


def _check(name: str) -> None:
    if name not in NAMES:
        raise InvalidRequest(f"no provider {name[:40]!r} here", hint=f"known: {', '.join(NAMES)}")


def _check_named(provider: str, settings: Settings) -> None:
    """Only aws has anything to refresh, and no cloud is asked unless it is named."""
    if provider not in ("", "aws"):
        _check(provider)
        raise InvalidRequest(f"{provider} has no catalogue to refresh", hint="--provider aws has one")
    if not provider and not settings.aws.enabled:
        raise InvalidRequest("no cloud is enabled whose offers could be refreshed", hint="name one: --provider aws")


def _told(one: Answers) -> dict[str, Any]:
    counts = {"types": one.types, "zones": one.zones, "spot_prices": one.spot, "on_demand_prices": one.on_demand}
    read_of = {what: None if answer is None else len(answer) for what, answer in counts.items()}
    return {"id": one.region, **read_of, "failed": dict(one.failed)}
