"""The aws provider keeps the laws against the fast EC2 as well, and that one is what it claims to be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.domain.errors import Throttled, Unauthorized, Unreachable
from provisioner.providers.aws.provider import AwsProvider
from tests.fakes import fastec2_wire as wire
from tests.fakes.fastec2 import FastCloud, fast_cloud
from tests.fakes.fastec2_limits import Limits
from tests.fakes.fastec2_wire import NotInModel, Refused
from tests.fakes.trouble import Trouble

from .hand_over_laws import HandOverLaws
from .provider_laws import ProviderLaws, ProviderWorld, listed, order
from .test_provider_aws import VISIBLE_S, made


@pytest.fixture(scope="module")
def fast() -> Iterator[FastCloud]:
    with fast_cloud() as running:
        yield running


@pytest.fixture(autouse=True)
def calm(fast: FastCloud) -> None:
    """Every test begins with a cloud that does as it is asked, and with full buckets."""
    fast.troubles, fast.limits = [], Limits()
    fast.calls.clear()
    fast.set_late(0.0)


@pytest.fixture
async def provider(fast: FastCloud) -> AwsProvider:
    return made()


@pytest.fixture
def world() -> ProviderWorld:
    return ProviderWorld("c-1", asyncio.sleep, lambda name: "{}", gpu="T4")


class TestAwsOnTheFastCloud(ProviderLaws, HandOverLaws):
    """Every instance shows late."""

    @pytest.fixture(autouse=True)
    def late(self, fast: FastCloud, calm: None) -> None:
        fast.set_late(VISIBLE_S / 2)


async def test_a_lost_answer_leads_back_to_the_same_machine(
    fast: FastCloud, provider: AwsProvider, world: ProviderWorld
) -> None:
    wanted = await order(provider, world, "runner-i-lost")
    fast.troubles.append(Trouble("RunInstances", lose=True))
    with pytest.raises(Unreachable):
        await provider.launch(wanted)
    again = await provider.launch(wanted)
    assert [machine.ref for machine in await listed(provider, wanted.name)] == [again.ref]


async def test_a_machine_that_has_lost_its_tags_is_gone_and_ending_it_again_is_success(
    fast: FastCloud, provider: AwsProvider, world: ProviderWorld
) -> None:
    """The policy goes by tags, so the second call is refused. One that lives without its tags stays refused."""
    launched = await provider.launch(await order(provider, world, "runner-i-untagged"))
    fast.denied.clear()
    for _ in range(2):
        await provider.terminate(launched.ref, launched.name, launched.scope)
    assert len(fast.denied) == 1
    living = await provider.launch(await order(provider, world, "runner-i-living"))
    fast.machines().by_id[living.ref].tags.clear()
    with pytest.raises(Unauthorized, match="ec2:TerminateInstances"):
        await provider.terminate(living.ref, living.name, living.scope)


@pytest.mark.parametrize("count", [1_200, pytest.param(10_000, marks=pytest.mark.system)])
async def test_thousands_of_machines_are_listed_whole_page_by_page(
    fast: FastCloud, provider: AwsProvider, count: int
) -> None:
    """Those of somebody else and those that are gone are not among them."""
    machines = fast.machines()
    for number in range(count):
        tags = {"gpu-runner:controller": "c-1" if number % 20 else "c-2", "gpu-runner:name": f"runner-{count}-{number}"}
        machine = machines.launch({"ClientToken": f"{count}-{number}"}, dict(_FIXED), tags)
        if number % 100 == 1:
            machine.end()
    (listing,) = [one for one in await provider.machines() if one.scope == "us-east-1"]
    ours = {one.name for one in listing.machines if one.name.startswith(f"runner-{count}-")}
    assert ours == {f"runner-{count}-{n}" for n in range(count) if n % 20 and n % 100 != 1}
    assert len(fast.asked("DescribeInstances")) <= 2 + count // 900


_FIXED: dict[str, Any] = {"InstanceType": "g4dn.xlarge", "SubnetId": "subnet-us-east-1-1"}


async def test_it_throttles_as_published(fast: FastCloud, world: ProviderWorld) -> None:
    """RunInstances: five at once, two a second. Ours keep within that; theirs do not."""
    provider = made()
    orders = [await order(provider, world, f"runner-i-pace{n}") for n in range(7)]
    await asyncio.gather(*(provider.launch(one) for one in orders))
    assert fast.limits is not None
    assert fast.limits.refused == 0
    fast.limits = Limits()
    hasty = [made() for _ in range(2)]
    answers = await asyncio.gather(
        *(one.launch(wanted) for one in hasty for wanted in orders[:4]), return_exceptions=True
    )
    assert {type(answer).__name__ for answer in answers} == {"Machine", "Throttled"}
    assert fast.limits.refused == sum(isinstance(answer, Throttled) for answer in answers)


async def test_a_client_token_means_one_request(fast: FastCloud, provider: AwsProvider, world: ProviderWorld) -> None:
    import boto3

    await provider.launch(await order(provider, world, "runner-i-token"))
    (asked,) = fast.asked("RunInstances")
    client = boto3.client("ec2", region_name="us-east-1")
    words = {key: value for key, value in asked.items() if key != "UserData"}
    with pytest.raises(client.exceptions.ClientError, match="IdempotentParameterMismatch"):
        client.run_instances(**words)


@pytest.mark.parametrize(
    ("action", "words", "code"),
    [
        ("DescribeInstances", {"Filter.1.Nme": "x"}, "UnknownParameter"),
        ("DescribeInstances", {"Colour": "red"}, "UnknownParameter"),
        ("DescribeInstances", {"MaxResults": "many"}, "InvalidParameterValue"),
        ("RunInstances", {"MinCount": "1"}, "MissingParameter"),
        ("RunInstances", {"MinCount": "1", "MaxCount": "1", "InstanceType": "g99.huge"}, "InvalidParameterValue"),
        ("RunInstances", {"MinCount": "1", "MaxCount": "1", "EbsOptimized": "perhaps"}, "InvalidParameterValue"),
        ("RentInstances", {}, "InvalidAction"),
    ],
)
def test_what_the_model_does_not_have_is_not_understood(action: str, words: dict[str, str], code: str) -> None:
    with pytest.raises(Refused) as refused:
        wire.parsed(action, words)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "instance",
    [
        {"Colour": "red"},
        {"InstanceId": 7},
        {"InstanceType": "g99.huge"},
        {"State": {"Name": "on fire"}},
        {"LaunchTime": "today"},
        {"Tags": [{"Key": "a", "Worth": "b"}]},
    ],
)
def test_what_the_model_does_not_have_cannot_be_said(instance: dict[str, Any]) -> None:
    with pytest.raises(NotInModel):
        wire.answered("DescribeInstances", {"Reservations": [{"Instances": [instance]}]})
