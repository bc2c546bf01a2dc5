"""The laws of `domain.ports.Provider`, one test each. An adapter inherits them with two fixtures.

`provider` is the adapter, with nothing launched; `world` says how to wait for it and what an order looks like there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from provisioner.domain.gpu import GpuNeed, satisfies
from provisioner.domain.job import Need
from provisioner.domain.offer import LaunchOrder, Listing, Machine, MachineState, Offer
from provisioner.domain.ports import Provider

_THERE = (MachineState.PENDING, MachineState.RUNNING)


@dataclass(frozen=True)
class ProviderWorld:
    """`pause(seconds)` lets time pass. `gpu` is a GPU that the cloud has, by name, and None where it has none."""

    controller: str
    pause: Callable[[float], Awaitable[None]]
    config: Callable[[str], str]
    gpu: str | None = None
    settle_s: float = 5.0


async def order(provider: Provider, world: ProviderWorld, name: str, need: Need | None = None) -> LaunchOrder:
    offer = min(await provider.offers(need or Need()), key=lambda o: (o.usd_per_hour is None, o.usd_per_hour or 0))
    return LaunchOrder(
        name=name,
        controller=world.controller,
        offer=offer,
        owner="ada",
        expires_at=datetime.now(UTC) + timedelta(days=2),
        config=world.config(name),
        disk_gib=0.0,
        tags={"instance": name.removeprefix("runner-")},
    )


async def listed(provider: Provider, name: str) -> list[Machine]:
    listings: Sequence[Listing] = await provider.machines()
    assert all(listing.complete for listing in listings)
    return [machine for listing in listings for machine in listing.machines if machine.name == name]


async def ended(provider: Provider) -> frozenset[str]:
    return frozenset[str]().union(*(listing.ended for listing in await provider.machines()))


async def shows(provider: Provider, world: ProviderWorld, name: str) -> Machine:
    """The machine once the cloud shows it. L2 bounds the wait."""
    waited_s, step_s = 0.0, max(0.05, provider.visibility_s / 20)
    while True:
        if found := await listed(provider, name):
            return found[0]
        assert waited_s <= provider.visibility_s + world.settle_s, f"{name} is not shown after {waited_s:.1f} s"
        await world.pause(step_s)
        waited_s += step_s


async def for_good(provider: Provider, world: ProviderWorld, name: str) -> list[Machine]:
    """What is listed once nothing can be in and out of sight any more."""
    await world.pause(provider.visibility_s)
    return await listed(provider, name)


async def vanishes(provider: Provider, world: ProviderWorld, name: str) -> None:
    """Until it is absent for good: seen no more after `visibility_s` of absence."""
    waited_s, absent_s, step_s = 0.0, 0.0, 0.1
    while absent_s <= provider.visibility_s:
        found = await listed(provider, name)
        absent_s = 0.0 if found else absent_s + step_s
        if found and waited_s % 10 < step_s:
            await provider.terminate(found[0].ref, name, found[0].scope)
        assert waited_s <= provider.visibility_s + 120, f"{name} does not go"
        await world.pause(step_s)
        waited_s += step_s


class ProviderLaws:
    async def test_l1_launched_twice_under_one_name_is_one_machine(
        self, provider: Provider, world: ProviderWorld
    ) -> None:
        wanted = await order(provider, world, "runner-i-l1")
        first, again = await provider.launch(wanted), await provider.launch(wanted)
        assert first.ref == again.ref
        await shows(provider, world, wanted.name)
        assert len(await for_good(provider, world, wanted.name)) == 1

    async def test_l1_launched_twice_at_the_same_time_is_one_machine(
        self, provider: Provider, world: ProviderWorld
    ) -> None:
        wanted = await order(provider, world, "runner-i-l1at")
        machines = await asyncio.gather(*(provider.launch(wanted) for _ in range(4)))
        assert len({machine.ref for machine in machines}) == 1
        await shows(provider, world, wanted.name)
        assert len(await for_good(provider, world, wanted.name)) == 1

    async def test_l1_a_name_that_was_terminated_does_not_come_back(
        self, provider: Provider, world: ProviderWorld
    ) -> None:
        wanted = await order(provider, world, "runner-i-l1back")
        launched = await provider.launch(wanted)
        await provider.terminate(launched.ref, wanted.name, launched.scope)
        await vanishes(provider, world, wanted.name)
        await provider.launch(wanted)
        await world.pause(provider.visibility_s + 1.0)
        assert [m for m in await listed(provider, wanted.name) if m.state in _THERE] == []

    async def test_l2_a_launched_machine_shows_within_its_time(self, provider: Provider, world: ProviderWorld) -> None:
        wanted = await order(provider, world, "runner-i-l2")
        await provider.launch(wanted)
        assert (await shows(provider, world, wanted.name)).state in _THERE

    async def test_l3_every_scope_of_an_offer_is_listed(self, provider: Provider, world: ProviderWorld) -> None:
        scopes = {offer.scope for offer in await provider.offers(Need())}
        assert scopes <= {listing.scope for listing in await provider.machines()}

    async def test_l3_listings_are_complete_or_an_error_and_never_both(
        self, provider: Provider, world: ProviderWorld
    ) -> None:
        for listing in await provider.machines():
            assert listing.complete or not listing.machines

    async def test_l3_what_is_said_to_have_ended_was_there_and_is_listed_no_more(
        self, provider: Provider, world: ProviderWorld
    ) -> None:
        """Not every cloud says so. What one says, it says for good."""
        wanted = await order(provider, world, "runner-i-l3ended")
        launched = await provider.launch(wanted)
        await shows(provider, world, wanted.name)
        assert wanted.name not in await ended(provider)
        await provider.terminate(launched.ref, wanted.name, launched.scope)
        await vanishes(provider, world, wanted.name)
        told = await ended(provider)
        await provider.launch(wanted)
        await world.pause(provider.visibility_s)
        assert [m for m in await listed(provider, wanted.name) if wanted.name in told] == []

    async def test_l4_terminated_twice_is_success(self, provider: Provider, world: ProviderWorld) -> None:
        wanted = await order(provider, world, "runner-i-l4")
        launched = await provider.launch(wanted)
        for _ in range(2):
            await provider.terminate(launched.ref, wanted.name, launched.scope)
        await vanishes(provider, world, wanted.name)
        await provider.terminate(launched.ref, wanted.name, launched.scope)

    async def test_l4_what_never_was_is_terminated_with_success(self, provider: Provider, world: ProviderWorld) -> None:
        scope = (await provider.offers(Need()))[0].scope
        await provider.terminate("", "runner-i-never", scope)

    async def test_l4_the_name_is_enough(self, provider: Provider, world: ProviderWorld) -> None:
        """The answer to the launch may have been lost, and with it the cloud's id."""
        wanted = await order(provider, world, "runner-i-l4name")
        launched = await provider.launch(wanted)
        await shows(provider, world, wanted.name)
        await provider.terminate("", wanted.name, launched.scope)
        await vanishes(provider, world, wanted.name)

    async def test_l5_tags_are_there_from_the_first_and_come_back(
        self, provider: Provider, world: ProviderWorld
    ) -> None:
        wanted = await order(provider, world, "runner-i-l5")
        await provider.launch(wanted)
        machine = await shows(provider, world, wanted.name)
        assert (machine.name, machine.controller, machine.scope) == (wanted.name, world.controller, wanted.offer.scope)
        assert machine.tags["instance"] == "i-l5"
        assert machine.tags["owner"] == "ada"
        assert datetime.fromisoformat(machine.tags["expires-at"]) == wanted.expires_at

    async def test_l7_a_cancelled_launch_loses_no_machine(self, provider: Provider, world: ProviderWorld) -> None:
        wanted = await order(provider, world, "runner-i-l7")
        launch = asyncio.create_task(_launch(provider, wanted))
        await world.pause(0.0)
        launch.cancel()
        await asyncio.gather(launch, return_exceptions=True)
        again = await provider.launch(wanted)
        await shows(provider, world, wanted.name)
        assert [machine.ref for machine in await for_good(provider, world, wanted.name)] == [again.ref]

    async def test_l8_a_price_is_positive_zero_on_purpose_or_unknown(
        self, provider: Provider, world: ProviderWorld
    ) -> None:
        for offer in await provider.offers(Need()):
            assert offer.usd_per_hour is None or offer.usd_per_hour >= 0
            assert offer.price_source

    async def test_l9_an_offer_says_truly_whether_it_has_the_gpu(
        self, provider: Provider, world: ProviderWorld
    ) -> None:
        need = GpuNeed(name=world.gpu or "H200")
        offers: Sequence[Offer] = await provider.offers(Need(gpu=need))
        assert any(satisfies(offer.gpu, need) for offer in offers) == (world.gpu is not None)


async def _launch(provider: Provider, wanted: LaunchOrder) -> Machine:
    return await provider.launch(replace(wanted))
