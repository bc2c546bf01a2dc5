"""Which offer to take: one order over all that is allowed, and a stated reason for every offer not taken.

In: what a job needs, what the providers offer, what was refused lately, what may be spent. Out: a `Ladder`, best rung
first, which `runner why` prints. Unknown prices come last and only under an explicit price ceiling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from .gpu import satisfies
from .job import MarketPolicy, Need
from .offer import Market, Offer


@dataclass(frozen=True, slots=True)
class Refusal:
    """Memory of refused capacity: offers that `scope` covers are not asked before `until`."""

    scope: str
    until: datetime
    why: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Quota:
    """How many vCPUs the machines of one pool of offers may have together. `words` say which limit it is, how much it
    allows and what to do about it."""

    pool: str
    cpus: float
    words: str


@dataclass(frozen=True, slots=True)
class Rung:
    """One offer and why it is not taken; an empty `refused` means that it may be. `lasting`: waiting will not help.
    `over_cap`: it would serve, and nothing but the cap on spending forbids it."""

    offer: Offer
    refused: str = ""
    lasting: bool = False
    over_cap: bool = False


@dataclass(frozen=True, slots=True)
class Ladder:
    """All offers in the order in which they are tried. `unanswered`: providers that could not be asked, and why.
    `unknown`: providers that were asked for and are not among those `known` here."""

    rungs: tuple[Rung, ...]
    unanswered: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    @property
    def best(self) -> Offer | None:
        return next((rung.offer for rung in self.rungs if not rung.refused), None)

    @property
    def impossible(self) -> bool:
        """No rung could ever be taken, however long one waits."""
        return not self.unanswered and all(rung.refused and rung.lasting for rung in self.rungs)

    @property
    def over_budget(self) -> bool:
        """Impossible, and only because each offer that would serve costs more than the cap by itself."""
        return self.impossible and any(rung.over_cap for rung in self.rungs)


def place(
    need: Need,
    offers: Iterable[Offer],
    refusals: Iterable[Refusal],
    now: datetime,
    *,
    cap_usd_per_hour: Decimal | None = None,
    force_on_demand: bool = False,
    excluded: Mapping[str, str] | None = None,
    quotas: Iterable[Quota] = (),
    used_cpus: Mapping[str, float] | None = None,
) -> Ladder:
    """Order `offers` for `need`. `excluded` maps providers to the reason why they take no launches now; `used_cpus`
    are the vCPUs of our machines by pool."""
    live = [refusal for refusal in refusals if refusal.until > now]
    limits = {quota.pool: (quota, (used_cpus or {}).get(quota.pool, 0.0)) for quota in quotas}
    rungs = [_rung(need, offer, live, cap_usd_per_hour, force_on_demand, excluded or {}, limits) for offer in offers]
    return Ladder(tuple(sorted(rungs, key=lambda rung: _order(need, rung.offer))))


def beside(ladder: Ladder, ours: Mapping[str, int]) -> Ladder:
    """The same where we have so many machines already, by the key of their offer: of some there are only so many."""
    if all(rung.offer.most is None for rung in ladder.rungs):
        return ladder
    return replace(ladder, rungs=tuple(_left(rung, ours.get(rung.offer.key, 0)) for rung in ladder.rungs))


def _left(rung: Rung, ours: int) -> Rung:
    if rung.refused or rung.offer.most is None or ours < rung.offer.most:
        return rung
    return Rung(rung.offer, "it is in use" if rung.offer.most == 1 else f"all {rung.offer.most} are in use")


def unfit(need: Need, offer: Offer) -> str:
    """Why a machine of this offer could not do this work; empty when it could."""
    if need.providers and offer.provider not in need.providers:
        return f"provider {offer.provider} was not asked for"
    if need.regions and offer.region not in need.regions:
        return f"region {offer.region} was not asked for"
    if need.instance_type and offer.instance_type != need.instance_type:
        return f"not the instance type {need.instance_type}"
    if need.gpu is not None and not satisfies(offer.gpu, need.gpu):
        have = f"{offer.gpu.count} x {offer.gpu.name}" if offer.gpu else "no GPU"
        return f"has {have}, asked for {need.gpu}"
    for what, have_size, asked in (
        ("CPUs", offer.cpus, need.cpus),
        ("GiB of memory", offer.memory_gib, need.memory_gib),
        ("GiB of disk", offer.disk_gib, need.disk_gib),
    ):
        if have_size < asked:
            return f"has {have_size:g} {what}, asked for {asked:g}"
    return ""


def ceilings(need: Need, offer: Offer) -> tuple[Decimal, ...]:
    """What an hour of it may cost at most, the most first: what is reserved for it, and what a spot request asks for.

    A spot price moves, so there the job's own ceiling counts, and no more than on-demand would cost; where the caps
    leave no room for that, the price as it is known. `place` lets an unknown price through only under a ceiling.
    """
    price = offer.usd_per_hour if offer.usd_per_hour is not None else need.max_price or Decimal(0)
    bounds = [usd for usd in (need.max_price, offer.on_demand_usd_per_hour) if usd is not None]
    if offer.market is not Market.SPOT or not bounds:
        return (price,)
    most = max(min(bounds), price if offer.usd_per_hour is not None else Decimal(0))
    return (most, price) if most > price else (most,)


def _rung(
    need: Need,
    offer: Offer,
    refusals: list[Refusal],
    cap: Decimal | None,
    force_on_demand: bool,
    excluded: Mapping[str, str],
    limits: Mapping[str, tuple[Quota, float]],
) -> Rung:
    if why := unfit(need, offer):
        return Rung(offer, why, lasting=True)
    if need.market is MarketPolicy.SPOT and offer.market is not Market.SPOT:
        return Rung(offer, "only spot was asked for", lasting=True)
    if need.market is MarketPolicy.ON_DEMAND and offer.market is not Market.ON_DEMAND:
        return Rung(offer, "only on-demand was asked for", lasting=True)
    if offer.usd_per_hour is None and need.max_price is None:
        return Rung(offer, "its price is unknown: needs --max-price", lasting=True)
    if need.max_price is not None and offer.usd_per_hour is not None and offer.usd_per_hour > need.max_price:
        return Rung(offer, f"costs more than the asked ceiling of ${need.max_price:f}/h", lasting=True)
    if cap is not None and ceilings(need, offer)[-1] > cap:
        return Rung(offer, f"alone costs more than the cap of ${cap:f}/h", lasting=True, over_cap=True)
    if over := _over_quota(offer, limits):
        return over
    if why := excluded.get(offer.provider, "") or offer.taken:
        return Rung(offer, why)
    if force_on_demand and offer.market is Market.SPOT and need.market is MarketPolicy.SPOT_FIRST:
        return Rung(offer, "on-demand after an interruption")
    for refusal in refusals:
        if offer.covered_by(refusal.scope):
            return Rung(offer, f"{refusal.why} (until {refusal.until:%H:%M:%S} UTC)")
    return Rung(offer)


def _over_quota(offer: Offer, limits: Mapping[str, tuple[Quota, float]]) -> Rung | None:
    """Waiting helps against what is in use, not against a quota that is too small for one machine."""
    for pool in offer.pools:
        if pool not in limits:
            continue
        quota, used = limits[pool]
        if offer.cpus > quota.cpus:
            said = quota.words if quota.cpus == 0 else f"needs {offer.cpus} vCPUs, and {quota.words}"
            return Rung(offer, said, lasting=True)
        if used and offer.cpus + used > quota.cpus:
            return Rung(offer, f"machines of ours have {used:g} vCPUs, this needs {offer.cpus}, and {quota.words}")
    return None


def _order(need: Need, offer: Offer) -> tuple[int, int, Decimal, str]:
    """Known prices first; spot before on-demand when asked; then the cheapest; then by name, so that it is stable."""
    market = 0 if need.market is not MarketPolicy.SPOT_FIRST or offer.market is Market.SPOT else 1
    if offer.market is Market.ON_DEMAND and offer.usd_per_hour == 0:
        market = 0
    return (offer.usd_per_hour is None, market, offer.usd_per_hour or Decimal(0), offer.key)
