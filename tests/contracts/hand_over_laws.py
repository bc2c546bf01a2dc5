"""The laws of `domain.abilities.HasHandOver`. An adapter inherits them with the fixtures of its provider's laws."""

from __future__ import annotations

from typing import Protocol

import pytest

from provisioner.domain.abilities import HasHandOver
from provisioner.domain.errors import Unreachable
from provisioner.domain.handing import TAG
from provisioner.domain.job import Need
from provisioner.domain.ports import Provider

from .provider_laws import ProviderWorld, listed, order, shows


class Leaving(Provider, HasHandOver, Protocol):
    """A provider with the ability."""


class HandOverLaws:
    async def test_d1_it_has_the_tag_and_all_that_it_had(self, provider: Leaving, world: ProviderWorld) -> None:
        wanted = await order(provider, world, "runner-i-d1")
        launched = await provider.launch(wanted)
        before = await shows(provider, world, wanted.name)
        await provider.hand_over(launched.ref, wanted.name, launched.scope)
        (after,) = await listed(provider, wanted.name)
        assert after.tags[TAG]
        assert {key: after.tags[key] for key in before.tags} == before.tags
        assert (after.ref, after.controller) == (before.ref, before.controller)

    async def test_d2_twice_is_once(self, provider: Leaving, world: ProviderWorld) -> None:
        wanted = await order(provider, world, "runner-i-d2")
        launched = await provider.launch(wanted)
        await shows(provider, world, wanted.name)
        for ref in (launched.ref, ""):
            await provider.hand_over(ref, wanted.name, launched.scope)
        (after,) = await listed(provider, wanted.name)
        assert after.tags[TAG]

    async def test_d3_one_that_is_not_there_is_said_to_be(self, provider: Leaving) -> None:
        offer = (await provider.offers(Need()))[0]
        with pytest.raises(Unreachable, match="runner-i-never is not there"):
            await provider.hand_over("", "runner-i-never", offer.scope)
