"""Port 22 of a group that the first launch of a region makes: open at once, and never in the way of that launch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.providers.aws.door import Door
from provisioner.providers.aws.provider import AwsProvider, Options
from provisioner.providers.aws.tags import Tags
from tests.fakes.fastec2 import FastCloud, fast_cloud
from tests.fakes.trouble import Trouble

from .provider_laws import ProviderWorld, order
from .test_provider_aws import CATALOG, MOTO, SystemClock, account

HERE = "us-east-1"
OURS = "198.51.100.7/32"


class Hasty(SystemClock):
    """Nobody who pauses by it waits."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def fast() -> Iterator[FastCloud]:
    with fast_cloud(limits=None) as running:
        yield running


@pytest.fixture
def clock() -> Hasty:
    return Hasty()


@pytest.fixture
def provider(fast: FastCloud, clock: Hasty) -> AwsProvider:
    options = Options(regions=(HERE,), image_owners=frozenset({MOTO}), ssh_from=OURS)
    return AwsProvider(account(), CATALOG, clock, "c-1", lambda order: f"#{order.name}", options)


async def launch(provider: AwsProvider, name: str) -> None:
    world = ProviderWorld("c-1", asyncio.sleep, lambda name: "{}", gpu="T4")
    await provider.launch(await order(provider, world, name))


async def until_seen_to() -> None:
    """What was begun beside a launch is done."""
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name().startswith("door of")))


def let_in(fast: FastCloud) -> list[str]:
    (group,) = fast.regions[HERE].groups.values()
    rules: list[dict[str, Any]] = group["IpPermissions"]
    return [one["CidrIp"] for rule in rules for one in rule["IpRanges"]]


async def test_it_opens_as_soon_as_there_is_a_group(fast: FastCloud, provider: AwsProvider) -> None:
    """It was asked for before the launch, when there was none, and nobody asks again for a minute."""
    await provider.admit({HERE})
    await launch(provider, "runner-i-first")
    await until_seen_to()
    assert let_in(fast) == [OURS]
    await launch(provider, "runner-i-second")
    assert len(fast.asked("AuthorizeSecurityGroupIngress")) == 1
    await provider.admit(set())
    assert let_in(fast) == []


async def test_a_group_that_is_not_wanted_open_stays_shut(fast: FastCloud, provider: AwsProvider) -> None:
    await provider.admit({"eu-west-1"})
    await launch(provider, "runner-i-dials")
    await until_seen_to()
    assert let_in(fast) == []
    assert fast.asked("AuthorizeSecurityGroupIngress") == []


async def test_it_is_asked_for_again_and_holds_up_no_launch(
    fast: FastCloud, provider: AwsProvider, clock: Hasty
) -> None:
    await provider.admit({HERE})
    fast.troubles.append(Trouble("AuthorizeSecurityGroupIngress", code="InvalidGroup.NotFound", times=2))
    await launch(provider, "runner-i-hasty")
    await until_seen_to()
    assert let_in(fast) == [OURS]
    assert clock.slept == [0.0, 1.0, 3.0]


async def test_what_fails_for_long_does_not_fail_the_launch_and_is_done_at_the_next_look(
    fast: FastCloud, provider: AwsProvider
) -> None:
    await provider.admit({HERE})
    fast.troubles.append(Trouble("AuthorizeSecurityGroupIngress", code="Unavailable", status=503, times=4))
    await launch(provider, "runner-i-dull")
    await until_seen_to()
    assert let_in(fast) == []
    await provider.admit({HERE})
    assert let_in(fast) == [OURS]


async def test_a_group_that_does_not_show_yet_is_opened_all_the_same(fast: FastCloud, clock: Hasty) -> None:
    """Made before anybody wanted the door, and looked for before EC2 lists it."""
    fast.policy = None
    region = fast.regions[HERE]
    made = region.do("CreateSecurityGroup", {"GroupName": "g", "Description": "d", "VpcId": region.vpc})
    door = Door(account(), Tags("c-1"), clock, OURS)
    door.made(HERE, made["GroupId"])
    await door.admit({HERE}, {HERE})
    assert let_in(fast) == [OURS]
