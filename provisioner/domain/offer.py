"""Offers and machines: what a cloud says can be had, and what it says exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from .gpu import Gpu


class Market(StrEnum):
    SPOT = "spot"
    ON_DEMAND = "on-demand"


@dataclass(frozen=True, slots=True)
class Offer:
    """A price, not a promise (L8). `scope` is the unit that listings answer for: a region, or one host.

    `usd_per_hour` None means unknown, never zero; `priced_at` is when its source was read. `on_demand_usd_per_hour`, of
    a spot offer, is what the same machine costs when it is not taken back. `billed_minimum_s` is the least that one
    start costs; a machine that the cloud itself takes back within `unbilled_if_taken_s` costs nothing. `pools` are what
    it shares with other offers, and a refusal may cover: a region, a quota. `taken` says why it cannot be had just now;
    `most`, where it is known, how many machines of it there can be at a time.
    `deadman_bound_s` is how long after its last contact a machine has surely stopped its work by itself, where nobody
    else could end it; 0 where the cloud can.
    """

    provider: str
    region: str
    zone: str
    instance_type: str
    market: Market
    usd_per_hour: Decimal | None
    price_source: str
    scope: str
    cpus: int
    memory_gib: float
    disk_gib: float
    gpu: Gpu | None = None
    arch: str = "x86_64"
    billed_minimum_s: float = 0.0
    unbilled_if_taken_s: float = 0.0
    deadman_bound_s: float = 0.0
    pools: tuple[str, ...] = ()
    taken: str = ""
    most: int | None = None
    priced_at: datetime | None = None
    on_demand_usd_per_hour: Decimal | None = None

    @property
    def key(self) -> str:
        """What a refusal of capacity is remembered under: zone x type x market."""
        return f"{self.provider}/{self.zone}/{self.instance_type}/{self.market}"

    def covered_by(self, scope: str) -> bool:
        """Whether a refusal of `scope` is one of this offer: its key, the beginning of its key, or a pool."""
        return scope in self.pools or f"{self.key}/".startswith(f"{scope}/")

    def __str__(self) -> str:
        price = "price unknown" if self.usd_per_hour is None else f"${self.usd_per_hour:f}/h"
        return f"{self.provider} {self.zone} {self.instance_type} {self.market} {price}"


class MachineState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Machine:
    """What the cloud says exists. `ref` is the cloud's id; `name` and `controller` come back from our tags; `address`
    is where it can be reached, "" while it has none."""

    ref: str
    name: str
    controller: str
    scope: str
    state: MachineState
    launched_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """One scope's answer: a complete list, or the error that kept it from being one (L3). Never a short list.

    `ended` names machines that the cloud itself says are over for good, where it says so; they are not in `machines`.
    `given_up` says who has given the whole scope up, and of what that is no proof: nobody can list it any more.
    """

    scope: str
    taken_at: datetime
    machines: tuple[Machine, ...] = ()
    error: str | None = None
    ended: frozenset[str] = frozenset()
    given_up: str = ""

    @property
    def complete(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """All that a provider needs to launch one machine. `name` is the idempotency key (L1).

    `config` is the agent's whole configuration as JSON text, the single-use join token in it being the only secret.
    `ceiling_usd_per_hour` is what was reserved for it: a spot request asks for no more.
    """

    name: str
    controller: str
    offer: Offer
    owner: str
    expires_at: datetime
    config: str
    disk_gib: float
    image: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    ceiling_usd_per_hour: Decimal | None = None
