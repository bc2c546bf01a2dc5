"""What some providers can beside the laws of all: optional ports, asked for at the composition root."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from .leftover import Leftover, Remains
from .place import Quota
from .shell import Way


@runtime_checkable
class HasDoor(Protocol):
    """A provider whose network keeps everybody out, this controller too, unless told otherwise."""

    async def admit(self, scopes: Collection[str]) -> None:
        """Let this controller's present address in by SSH in `scopes`, and nobody in anywhere else of what is ours.
        Raises: ProviderError."""
        ...


@runtime_checkable
class HasWay(Protocol):
    """A provider whose machines live on computers that it logs in to by itself."""

    async def way(self, scope: str, name: str) -> Way:
        """To the machine called `name`, launched or not yet. Raises: ProviderError."""
        ...


@runtime_checkable
class HasQuota(Protocol):
    """A provider that knows beforehand how much an account may rent.

    - Q1 `quotas` makes no call and waits for nothing: it says what was read last.
    - Q2 what could not be read is not in it, and refuses nothing.
    """

    def quotas(self) -> Sequence[Quota]: ...


@runtime_checkable
class HasConsole(Protocol):
    """A cloud that keeps what a machine prints.

    - A1 `console` is the end of what was printed, as it was printed; "" while there is nothing, and of what never was.
    - A2 asking changes nothing, and only our errors come out.
    """

    async def console(self, machine_ref: str, name: str, scope: str) -> str:
        """At most 64 KiB; `machine_ref` may be empty."""
        ...


@runtime_checkable
class HasEndings(Protocol):
    """A cloud that says by whom a machine was ended.

    - E1 `taken_back` is true only of a machine that the cloud ended for its own ends: not we, nor its guest, nor a
      person. E2 asking changes nothing, and only our errors come out.
    """

    async def taken_back(self, machine_ref: str, name: str, scope: str) -> bool: ...


@runtime_checkable
class HasHardLimit(Protocol):
    """A cloud that ends a machine at a set time by itself, whoever else is gone by then.

    - H1 `limit` is idempotent on `name`: asked twice, one limit. H2 `lift` is idempotent; absence is success.
    - H3 a limit goes by itself once it was reached; one that nobody lifted is among what `HasLeftovers` finds.
    """

    @property
    def hard_limit(self) -> bool:
        """Whether the settings ask for it."""
        ...

    async def limit(self, machine_ref: str, name: str, scope: str, at: datetime) -> None: ...
    async def lift(self, name: str, scope: str) -> None: ...


@runtime_checkable
class HasHandOver(Protocol):
    """A cloud whose machines can be left to themselves.

    - D1 after `hand_over` the machine is listed with the tag `handed-over` and all that it had before. D2 it is
      idempotent. D3 a machine that is not there is `Unreachable`, and only our errors come out.
    """

    async def hand_over(self, machine_ref: str, name: str, scope: str) -> None: ...


@runtime_checkable
class HasLeftovers(Protocol):
    """A cloud in which parts of a machine can outlive it.

    - R1 `leftovers` answers scope by scope: a complete list, or the error, never a short list.
    - R2 nothing that a machine which is there uses is among them, nor anything that is not ours.
    - R3 `remove` is idempotent; absence is success; what is still in use stays, and is `Unreachable`: later.
    """

    async def leftovers(self) -> Sequence[Remains]: ...
    async def remove(self, leftover: Leftover) -> None: ...


@dataclass(frozen=True, slots=True)
class Abilities:
    """What some providers can beside the laws of all, each by the provider's name. More may come while it is used."""

    consoles: Mapping[str, HasConsole] = field(default_factory=dict)
    endings: Mapping[str, HasEndings] = field(default_factory=dict)
    limits: Mapping[str, HasHardLimit] = field(default_factory=dict)
    leftovers: Mapping[str, HasLeftovers] = field(default_factory=dict)
    quotas: Mapping[str, HasQuota] = field(default_factory=dict)
    hand_overs: Mapping[str, HasHandOver] = field(default_factory=dict)
