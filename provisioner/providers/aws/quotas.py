"""How many vCPUs the account may have, by region and family: read beside the engine's passes, and kept for a while.

Nothing waits for a reading. What was never read, or cannot be, limits nothing: EC2 itself refuses what is too much.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence

import structlog

from provisioner.domain.errors import ProviderError
from provisioner.domain.offer import Offer
from provisioner.domain.place import Quota
from provisioner.domain.ports import Clock

from .account import Account
from .pools import CODES, family_pool

_log = structlog.get_logger()
_KEPT_S = 3600.0  # arbitrary: quotas change by hand, in hours
_AGAIN_S = 300.0  # arbitrary: after a failure, and where something is too small and may be being raised


class Quotas:
    """`want` has the quotas read that offers count against; `known` says what was read last."""

    def __init__(self, account: Account, clock: Clock) -> None:
        self._account = account
        self._clock = clock
        self._values: dict[str, Mapping[str, float]] = {}
        self._read_s: dict[str, float] = {}
        self._asked_s: dict[str, float] = {}
        self._reading: set[asyncio.Task[None]] = set()

    @property
    def known(self) -> Sequence[Quota]:
        return [quota for region, values in self._values.items() for quota in _quotas(region, values)]

    def want(self, offers: Iterable[Offer]) -> None:
        """Read, in a task of its own, what was read too long ago; sooner in a region whose quotas forbid all of it."""
        now_s = self._clock.monotonic()
        limits = {quota.pool: quota.cpus for quota in self.known}
        kept_s: dict[str, float] = {}
        for offer in offers:
            fits = all(offer.cpus <= limits.get(pool, offer.cpus) for pool in offer.pools)
            kept_s[offer.region] = max(kept_s.get(offer.region, _AGAIN_S), _KEPT_S if fits else _AGAIN_S)
        for region, age_s in kept_s.items():
            old = now_s - self._read_s.get(region, -math.inf) >= age_s
            if old and now_s - self._asked_s.get(region, -math.inf) >= _AGAIN_S:
                self._ask(region)

    def begin(self, regions: Iterable[str]) -> None:
        """Read those that were never asked for, so that the first job's offers find them known."""
        for region in regions:
            if region not in self._asked_s:
                self._ask(region)

    def _ask(self, region: str) -> None:
        self._asked_s[region] = self._clock.monotonic()
        task = asyncio.create_task(self._read(region), name=f"quotas of {region}")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self, region: str) -> None:
        try:
            self._values[region] = await quota_values(self._account, region)
            self._read_s[region] = self._clock.monotonic()
        except ProviderError as error:
            _log.warning("provider.quotas_not_read", region=region, error=error.message)


async def quota_values(account: Account, region: str) -> Mapping[str, float]:
    """vCPUs by the code of the quota, for those of `pools.CODES` that the account has. Raises: ProviderError."""
    rows = await account.pages(
        region, "list_service_quotas", "Quotas", size=100, service="service-quotas", ServiceCode="ec2"
    )
    known = set(CODES.values())
    return {row["QuotaCode"]: float(row["Value"]) for row in rows if row["QuotaCode"] in known}


def ask_for(region: str, code: str) -> str:
    """The command that asks AWS for more."""
    return (
        f"aws service-quotas request-service-quota-increase --region {region} --service-code ec2 --quota-code {code} "
        "--desired-value VCPUS"
    )


def _quotas(region: str, values: Mapping[str, float]) -> Iterable[Quota]:
    for (family, market), code in CODES.items():
        if code in values:
            limit = f"the quota of {family} {market} vCPUs in {region} is {values[code]:g}"
            yield Quota(
                family_pool(region, family, market), values[code], f"{limit}; ask for more: {ask_for(region, code)}"
            )
