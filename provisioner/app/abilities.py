"""Which of the providers can more than the laws of all ask for: asked anew each time, for a cloud may come while the
controller runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

from provisioner.domain.abilities import (
    Abilities,
    HasConsole,
    HasEndings,
    HasHandOver,
    HasHardLimit,
    HasLeftovers,
    HasQuota,
)
from provisioner.domain.ports import Provider

T = TypeVar("T")


class _Able(Mapping[str, T]):
    """Those of the providers that `can` holds for."""

    def __init__(self, providers: Mapping[str, Provider], can: Callable[[Any], bool]) -> None:
        self._providers = providers
        self._can = can

    def __getitem__(self, name: str) -> T:
        one = self._providers[name]
        if not self._can(one):
            raise KeyError(name)
        return cast(T, one)

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, one in self._providers.items() if self._can(one)])

    def __len__(self) -> int:
        return sum(1 for _ in self)


def abilities_of(providers: Mapping[str, Provider]) -> Abilities:
    """A hard limit only where the settings ask for it."""
    return Abilities(
        consoles=_Able[HasConsole](providers, lambda one: isinstance(one, HasConsole)),
        endings=_Able[HasEndings](providers, lambda one: isinstance(one, HasEndings)),
        limits=_Able[HasHardLimit](providers, lambda one: isinstance(one, HasHardLimit) and one.hard_limit),
        leftovers=_Able[HasLeftovers](providers, lambda one: isinstance(one, HasLeftovers)),
        quotas=_Able[HasQuota](providers, lambda one: isinstance(one, HasQuota)),
        hand_overs=_Able[HasHandOver](providers, lambda one: isinstance(one, HasHandOver)),
    )
