"""What can be had now: every enabled provider's offers, the memory of refusals, and who takes no launches."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from provisioner.domain.abilities import HasQuota
from provisioner.domain.errors import NoCapacity, ProviderError, QuotaExceeded, Unauthorized
from provisioner.domain.job import Instance, Need
from provisioner.domain.offer import Offer
from provisioner.domain.place import Ladder, Refusal, beside, place
from provisioner.domain.policy import Policy
from provisioner.domain.ports import Clock, Provider
from provisioner.domain.store import Store

_log = structlog.get_logger()


class Marketplace:
    """`default` names the providers that are used when a job names none; `quotas` are those that know theirs;
    `shut()` those that somebody else knows to be paused, and why."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        store: Store,
        clock: Clock,
        policy: Policy,
        default: Sequence[str],
        quotas: Mapping[str, HasQuota] | None = None,
        shut: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._providers = providers
        self._store = store
        self._clock = clock
        self._policy = policy
        self._default = tuple(default)
        self._quotas = quotas or {}
        self._shut = shut
        self._paused: dict[str, tuple[str, float]] = {}

    @property
    def paused(self) -> dict[str, str]:
        """Providers that take no launches now, and why. A pause ends by itself, so that mended rights are noticed."""
        now_s = self._clock.monotonic()
        refused = {name: why for name, (why, until_s) in self._paused.items() if until_s > now_s}
        return {**refused, **self._shut()}

    def resume(self, provider: str) -> None:
        """Its rights may be others now: it is asked again."""
        self._paused.pop(provider, None)

    async def ladder(self, need: Need, *, force_on_demand: bool = False) -> Ladder:
        """All offers in the order in which they are tried, each with the reason if it is not."""
        names = [name for name in (need.providers or self._default) if name in self._providers]
        answers = await asyncio.gather(*(self._offers(name, need) for name in names))
        offers = [offer for answer in answers if not isinstance(answer, str) for offer in answer]
        now = self._clock.now()
        if any(offer.most is not None for offer in offers):
            ours = Counter(instance.offer.key for instance in await self._store.instances.find())
        else:
            ours = Counter()
        quotas = [quota for name in names if name in self._quotas for quota in self._quotas[name].quotas()]
        ladder = place(
            need,
            offers,
            await self._refusals(now),
            now,
            cap_usd_per_hour=self._policy.max_usd_per_hour,
            force_on_demand=force_on_demand,
            excluded=self.paused,
            quotas=quotas,
            used_cpus=await self._used_cpus() if quotas else None,
        )
        return replace(
            beside(ladder, ours),
            unanswered=tuple(answer for answer in answers if isinstance(answer, str)),
            unknown=tuple(name for name in need.providers if name not in self._providers),
            known=tuple(self._providers),
        )

    async def _refusals(self, now: datetime) -> list[Refusal]:
        """Less those that end later than any could: they were written before the clock was set back."""
        latest = now + timedelta(seconds=self._policy.refused_max_s)
        return [refusal for refusal in await self._store.records.refusals(now) if refusal.until <= latest]

    async def _used_cpus(self) -> dict[str, float]:
        """vCPUs of our machines short of gone, by pool."""
        used: dict[str, float] = {}
        for instance in await self._store.instances.find():
            for pool in instance.offer.pools:
                used[pool] = used.get(pool, 0.0) + instance.offer.cpus
        return used

    async def _offers(self, name: str, need: Need) -> Sequence[Offer] | str:
        """Its offers, or why it has none to tell of."""
        try:
            return list(await self._providers[name].offers(need))
        except ProviderError as error:
            _log.warning("provider.no_offers", provider=name, error=error.message)
            return f"{name} did not answer: {error.message}"

    async def refused(self, instance: Instance, error: ProviderError) -> None:
        """Remember: a refusal of capacity cools down, twice as long on repeat; missing rights pause the provider."""
        if isinstance(error, Unauthorized):
            until_s = self._clock.monotonic() + self._policy.retry_backoff_max_s
            self._paused[instance.offer.provider] = (_paused_by(instance.offer.provider, error), until_s)
        elif isinstance(error, NoCapacity | QuotaExceeded):
            await self._remember(error.scope or instance.offer.key, error.line, error.cooldown_s)

    async def disappointed(self, instance: Instance, why: str) -> None:
        """A machine of this offer never came to work: others first, for a while."""
        await self._remember(instance.offer.key, why, self._policy.refused_s)

    async def _remember(self, scope: str, why: str, pause_s: float) -> None:
        now = self._clock.now()
        before = next((r for r in await self._refusals(now) if r.scope == scope), None)
        times, until = (before.times, before.until) if before else (0, now)
        if until <= now:  # else it was under way already when the other refusal was heard, which is no repetition
            times += 1
        pause_s = min(pause_s * 2 ** min(times - 1, 16), self._policy.refused_max_s)
        until = max(until, now + timedelta(seconds=pause_s))
        await self._store.records.refuse(Refusal(scope, until, why, times))


def _paused_by(provider: str, error: Unauthorized) -> str:
    said = f"{error.message}; {error.hint}" if error.hint else error.message
    return said if said.startswith(f"{provider} is paused") else f"{provider} is paused: {said}"
