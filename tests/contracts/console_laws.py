"""The laws of `domain.abilities.HasConsole`. An adapter inherits them with the fixtures of its provider's laws.

`prints` makes a machine print a line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from provisioner.domain.abilities import HasConsole
from provisioner.domain.job import Need
from provisioner.domain.offer import Machine
from provisioner.domain.ports import Provider

from .provider_laws import ProviderWorld, order, shows


class Talkative(Provider, HasConsole, Protocol):
    """A provider with the ability."""


class ConsoleLaws:
    async def test_a1_the_end_of_what_was_printed(
        self, provider: Talkative, world: ProviderWorld, prints: Callable[[Machine, str], None]
    ) -> None:
        wanted = await order(provider, world, "runner-i-a1")
        launched = await provider.launch(wanted)
        prints(launched, "first\n" + "x" * 100_000 + "\nlast line")
        text = await provider.console(launched.ref, wanted.name, launched.scope)
        assert text.rstrip().endswith("last line")
        assert len(text) <= 2**16
        await shows(provider, world, wanted.name)
        assert (await provider.console("", wanted.name, launched.scope)).rstrip().endswith("last line")

    async def test_a1_of_what_never_was_nothing(self, provider: Talkative) -> None:
        offer = (await provider.offers(Need()))[0]
        assert await provider.console("", "runner-i-never", offer.scope) == ""

    async def test_a2_asking_changes_nothing(self, provider: Talkative, world: ProviderWorld) -> None:
        wanted = await order(provider, world, "runner-i-a2")
        launched = await provider.launch(wanted)
        await provider.console(launched.ref, wanted.name, launched.scope)
        assert (await shows(provider, world, wanted.name)).ref == launched.ref
