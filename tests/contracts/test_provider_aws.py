"""The aws provider keeps the laws against a real EC2 API server, and what only it promises."""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from provisioner.domain.errors import (
    NoCapacity,
    ProviderError,
    QuotaExceeded,
    Rejected,
    Throttled,
    Unauthorized,
    Unreachable,
)
from provisioner.domain.job import Need
from provisioner.domain.offer import LaunchOrder, Machine, Market
from provisioner.providers.aws.account import Account
from provisioner.providers.aws.catalog import Catalog
from provisioner.providers.aws.provider import AwsProvider, Options
from tests.fakes import ec2
from tests.fakes.aws_account import Account as FakeAccount
from tests.fakes.ec2 import Cloud
from tests.fakes.trouble import Trouble

from .console_laws import ConsoleLaws
from .hand_over_laws import HandOverLaws
from .provider_laws import ProviderLaws, ProviderWorld, ended, listed, order, shows

MOTO = "123456789012"  # the account that moto's images belong to
VISIBLE_S = 0.4
CATALOG = Catalog()


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@functools.cache
def _session() -> Any:
    """botocore's models, read once for all accounts; they take longer than most of these tests."""
    import boto3

    return boto3.Session()


def account() -> Account:
    made = Account(SystemClock())
    made._session = _session()
    return made


def made(controller: str = "c-1", **changes: object) -> AwsProvider:
    usual = {"regions": ("us-east-1",), "image_owners": frozenset({MOTO})}
    options = Options(**usual | changes)  # type: ignore[arg-type]
    return AwsProvider(
        account(), CATALOG, SystemClock(), controller, lambda order: f"#{order.name}", options, visibility_s=VISIBLE_S
    )


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with ec2.cloud(tmp_path_factory.mktemp("ec2")) as running:
        yield running


@pytest.fixture(autouse=True)
def calm(cloud: Cloud) -> Iterator[None]:
    """Every test begins with a cloud that does as it is asked, and ends without a right that was lacked."""
    cloud.late_s, cloud.troubles, cloud.denied, cloud.account = 0.0, [], [], FakeAccount()
    cloud.console = lambda instance: None
    cloud.calls.clear()
    yield
    assert cloud.lacked == []


@pytest.fixture
async def provider(cloud: Cloud) -> AwsProvider:
    return made()


@pytest.fixture
def world() -> ProviderWorld:
    return ProviderWorld("c-1", asyncio.sleep, lambda name: "{}", gpu="T4")


class TestAws(ProviderLaws, ConsoleLaws, HandOverLaws):
    """Every instance shows late."""

    @pytest.fixture(autouse=True)
    def late(self, cloud: Cloud, calm: None) -> None:
        cloud.late_s = VISIBLE_S / 2

    @pytest.fixture
    def prints(self, cloud: Cloud) -> Callable[[Machine, str], None]:
        """EC2 keeps the last 64 KiB."""
        return lambda machine, text: setattr(cloud, "console", {machine.ref: text[-(2**16) :]}.get)


async def test_a_lost_answer_leads_back_to_the_same_machine(
    cloud: Cloud, provider: AwsProvider, world: ProviderWorld
) -> None:
    wanted = await order(provider, world, "runner-i-lost")
    cloud.troubles.append(Trouble("RunInstances", lose=True))
    with pytest.raises(Unreachable):
        await provider.launch(wanted)
    again = await provider.launch(wanted)
    assert [machine.ref for machine in await listed(provider, wanted.name)] == [again.ref]


async def test_another_order_under_the_same_name_is_the_machine_that_is_there(
    provider: AwsProvider, world: ProviderWorld
) -> None:
    """The controller's address may have changed between two calls; that is no second machine."""
    wanted = await order(provider, world, "runner-i-other")
    first = await provider.launch(wanted)
    changed = AwsProvider(
        Account(SystemClock()),
        Catalog(),
        SystemClock(),
        "c-1",
        lambda order: "#another",
        Options(image_owners=frozenset({MOTO})),
    )
    assert (await changed.launch(wanted)).ref == first.ref
    smaller = replace(wanted.offer, instance_type="c5.24xlarge")
    with pytest.raises(Rejected, match="this is a bug"):
        await changed.launch(replace(wanted, offer=smaller))


async def test_what_the_launch_asks_for(cloud: Cloud, world: ProviderWorld) -> None:
    import boto3

    iam = boto3.client("iam", region_name="us-east-1")
    iam.create_instance_profile(InstanceProfileName="training")
    iam.create_role(RoleName="gpu-runner-machine", AssumeRolePolicyDocument="{}")
    iam.add_role_to_instance_profile(InstanceProfileName="training", RoleName="gpu-runner-machine")
    provider = made(instance_profile="training", disk_gib=75.5)
    cheapest = await order(provider, world, "runner-i-asked", Need(gpu=None))
    spot = replace(cheapest, offer=replace(cheapest.offer, market=Market.SPOT), disk_gib=0.0)
    await provider.launch(spot)
    (asked,) = cloud.asked("RunInstances")
    said = {
        "ClientToken": "runner-i-asked",
        "MinCount": "1",
        "MaxCount": "1",
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions.HttpTokens": "required",
        "MetadataOptions.HttpPutResponseHopLimit": "1",
        "InstanceMarketOptions.MarketType": "spot",
        "InstanceMarketOptions.SpotOptions.SpotInstanceType": "one-time",
        "InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior": "terminate",
        "BlockDeviceMapping.1.Ebs.Encrypted": "true",
        "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
        "BlockDeviceMapping.1.Ebs.VolumeSize": "76",
        "NetworkInterface.1.DeleteOnTermination": "true",
        "IamInstanceProfile.Name": "training",
        "ImageId": cloud.images[f"us-east-1/{cheapest.offer.arch}"],
    }
    assert {key: asked.get(key) for key in said} == said
    assert base64.b64decode(asked["UserData"]) == b"#runner-i-asked"
    kinds = [asked[f"TagSpecification.{n}.ResourceType"] for n in range(1, 5)]
    assert kinds == ["instance", "volume", "network-interface", "spot-instances-request"]
    assert asked["TagSpecification.4.Tag.2.Value"] == "runner-i-asked"


async def test_nothing_comes_in_and_the_group_is_made_once(cloud: Cloud, world: ProviderWorld) -> None:
    import boto3

    first, second = made("c-group"), made("c-group")
    orders = [replace(await order(first, world, f"runner-i-g{n}"), controller="c-group") for n in range(3)]
    await asyncio.gather(*(first.launch(one) for one in orders[:2]))
    await second.launch(orders[2])
    assert len(cloud.asked("CreateSecurityGroup")) == 1
    ec2_client = boto3.client("ec2", region_name="us-east-1")
    filters = [{"Name": "tag:gpu-runner:controller", "Values": ["c-group"]}]
    (group,) = ec2_client.describe_security_groups(Filters=filters)["SecurityGroups"]
    assert group["IpPermissions"] == []


async def test_machines_of_another_controller_are_not_ours(provider: AwsProvider, world: ProviderWorld) -> None:
    await provider.launch(await order(provider, world, "runner-i-ours"))
    assert await listed(made("c-2"), "runner-i-ours") == []


async def test_whoever_launched_it_it_is_found_to_be_collected(provider: AwsProvider, world: ProviderWorld) -> None:
    wanted = await order(provider, world, "runner-i-anyones")
    await provider.launch(wanted)
    clock = SystemClock()
    anyone = AwsProvider(Account(clock), Catalog(), clock, "", lambda order: "", any_controller=True)
    (found,) = await listed(anyone, "runner-i-anyones")
    assert (found.controller, datetime.fromisoformat(found.tags["expires-at"])) == ("c-1", wanted.expires_at)
    await anyone.terminate(found.ref, found.name, found.scope)
    assert await listed(provider, "runner-i-anyones") == []


async def test_a_region_that_cannot_be_listed_is_an_error_and_the_others_are_whole(
    cloud: Cloud, provider: AwsProvider, world: ProviderWorld
) -> None:
    await provider.machines()
    cloud.troubles.append(Trouble("DescribeInstances", code="InternalError", status=500))
    listings = await provider.machines()
    assert sorted(listing.scope for listing in listings) == list(ec2.REGIONS)
    assert sorted(listing.complete for listing in listings) == [False, True]


async def test_a_page_that_is_missing_makes_the_listing_an_error(
    cloud: Cloud, provider: AwsProvider, world: ProviderWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(7):
        await provider.launch(await order(provider, world, f"runner-i-page{n}"))
    account = provider._account
    whole = await account.pages("us-east-1", "describe_instances", "Reservations", size=5)
    assert len(whole) >= 7
    cloud.troubles.append(Trouble("DescribeInstances", code="RequestLimitExceeded", status=503, skip=1))
    with pytest.raises(Throttled):
        await account.pages("us-east-1", "describe_instances", "Reservations", size=5)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("InsufficientInstanceCapacity", 500, NoCapacity),
        ("VcpuLimitExceeded", 400, QuotaExceeded),
        ("UnauthorizedOperation", 403, Unauthorized),
        ("RequestLimitExceeded", 503, Throttled),
        ("InternalError", 500, Unreachable),
        ("SomethingNew", 500, Unreachable),
        ("SomethingNew", 400, Rejected),
        ("InvalidParameterValue", 400, Rejected),
        ("InvalidAMIID.NotFound", 400, Unreachable),
    ],
)
async def test_every_no_is_one_of_ours_and_leaves_nothing(
    cloud: Cloud, provider: AwsProvider, world: ProviderWorld, code: str, status: int, kind: type[ProviderError]
) -> None:
    wanted = await order(provider, world, f"runner-i-{code.lower()}-{status}")
    cloud.troubles.append(Trouble("RunInstances", code=code, status=status))
    with pytest.raises(ProviderError) as refused:
        await provider.launch(wanted)
    assert type(refused.value) is kind
    assert code in refused.value.message
    assert await listed(provider, wanted.name) == []
    assert (await provider.launch(wanted)).name == wanted.name


async def test_an_image_of_somebody_else_is_not_taken_for_the_publishers(cloud: Cloud, world: ProviderWorld) -> None:
    provider = AwsProvider(Account(SystemClock()), Catalog(), SystemClock(), "c-1", lambda order: "", Options())
    with pytest.raises(Rejected, match=f"is of account {MOTO}"):
        await provider.launch(await order(provider, world, "runner-i-image", Need(regions=("us-east-1",))))
    assert cloud.asked("RunInstances") == []


async def test_an_image_for_another_architecture_is_refused_by_name(cloud: Cloud, world: ProviderWorld) -> None:
    provider = made()
    wanted = await order(provider, world, "runner-i-arch")
    other = {"x86_64": "arm64", "arm64": "x86_64"}[wanted.offer.arch]
    with pytest.raises(Rejected, match=f"is for {other}, and {wanted.offer.instance_type} is {wanted.offer.arch}"):
        await provider.launch(replace(wanted, image=cloud.images[f"us-east-1/{other}"]))


async def test_a_zone_without_a_subnet_is_no_capacity(provider: AwsProvider, world: ProviderWorld) -> None:
    wanted = await order(provider, world, "runner-i-zone")
    with pytest.raises(NoCapacity, match="zone use1-az99 has no subnet of the default VPC"):
        await provider.launch(replace(wanted, offer=replace(wanted.offer, zone="use1-az99")))


async def test_a_machine_that_still_shows_after_it_was_ended_is_ended_again(
    provider: AwsProvider, world: ProviderWorld
) -> None:
    wanted: LaunchOrder = await order(provider, world, "runner-i-gone")
    launched = await provider.launch(wanted)
    await shows(provider, world, wanted.name)
    await provider.terminate(launched.ref, wanted.name, launched.scope)
    await provider.terminate("i-0123456789abcdef0", wanted.name, launched.scope)


async def test_what_ec2_says_is_terminated_has_ended(provider: AwsProvider, world: ProviderWorld) -> None:
    """It shows for an hour more, as nothing that could cost money or come back."""
    wanted = await order(provider, world, "runner-i-ended")
    launched = await provider.launch(wanted)
    await provider.terminate(launched.ref, wanted.name, launched.scope)
    assert wanted.name in await ended(provider)
    assert await listed(provider, wanted.name) == []


async def test_without_credentials_it_says_so(
    cloud: Cloud, world: ProviderWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = await order(made(), world, "runner-i-none")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    unknown = AwsProvider(Account(SystemClock()), CATALOG, SystemClock(), "c-1", lambda order: "")
    with pytest.raises(Unauthorized, match="no AWS credentials"):
        await unknown.launch(wanted)
    with pytest.raises(Unauthorized, match="no AWS credentials"):
        await AwsProvider(
            Account(SystemClock(), "nobody"), Catalog(), SystemClock(), "c-1", lambda order: "", Options()
        ).launch(wanted)
    assert {listing.complete for listing in await unknown.machines()} == {False}
