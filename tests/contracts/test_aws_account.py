"""What the aws provider knows of an account: its prices, quotas, regions and rights, from a real API server.

And what it says of an account that is not as it should be: each time one line that says what to do.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from provisioner.app.doctor import Line, examine
from provisioner.app.offers import listed, refreshed
from provisioner.domain.abilities import HasQuota
from provisioner.domain.errors import InvalidRequest, NoCapacity, QuotaExceeded, Rejected, RunnerError, Unauthorized
from provisioner.domain.gpu import parse_gpu
from provisioner.domain.job import MarketPolicy, Need
from provisioner.domain.offer import Market
from provisioner.domain.place import Ladder, place
from provisioner.domain.ports import Provider
from provisioner.providers.aws.provider import AwsProvider
from provisioner.settings import home_folder
from tests.fakes import ec2
from tests.fakes.aws_account import Account
from tests.fakes.ec2 import Cloud
from tests.fakes.iam import Policy
from tests.fakes.trouble import Trouble

from .provider_laws import ProviderWorld, order
from .test_provider_aws import SystemClock, made

CLOCK = SystemClock()
T4 = Need(gpu=parse_gpu("T4"), instance_type="g4dn.xlarge", regions=("us-east-1",))
G_SPOT, G_ON_DEMAND = "L-3819A6DF", "L-DB2E81BA"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with ec2.cloud(tmp_path_factory.mktemp("ec2")) as running:
        yield running


@pytest.fixture(autouse=True)
def account(cloud: Cloud) -> Account:
    """One that has everything."""
    cloud.troubles, cloud.account = [], Account()
    cloud.calls.clear()
    for region in ec2.REGIONS:
        for code in (G_SPOT, G_ON_DEMAND, "L-7212CCBC", "L-C4BD4855", "L-417A185B"):
            cloud.account.quotas[region, code] = 64.0
    return cloud.account


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNNER_HOME", str(tmp_path))
    (tmp_path / "settings.yaml").write_text("aws: {enabled: true, regions: [us-east-1, eu-west-1]}\n")
    return home_folder({"RUNNER_HOME": str(tmp_path)})


@pytest.fixture
def world() -> ProviderWorld:
    return ProviderWorld("c-1", asyncio.sleep, lambda name: "{}", gpu="T4")


async def ladder(provider: AwsProvider, need: Need = T4) -> Ladder:
    """As the engine makes it, once what was begun to be read has been read."""
    offers = await provider.offers(need)
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name().startswith("quotas of")))
    return place(need, offers, (), CLOCK.now(), quotas=provider.quotas())


# Offers


async def prices(home: Path, **more: object) -> dict[str, tuple[str | None, str]]:
    asked = {"instance_type": "g4dn.xlarge", "providers": ["aws"], **more}
    found = [row["offer"] for row in await listed(home, asked)]
    return {f"{one['zone']} {one['market']}": (one["usd_per_hour"], one["price_source"]) for one in found}


async def test_a_refresh_takes_the_place_of_what_was_known(account: Account, home: Path) -> None:
    """All pages of it; the last change of a spot price is the price; what has no price any more is unknown."""
    (home / "settings.yaml").write_text("aws: {enabled: true}\n")
    account.spot["us-east-1", "use1-az1", "g4dn.xlarge"] = [
        ("2026-11-21T10:00:00Z", "0.31"),
        ("2026-11-20T10:00:00Z", "0.99"),
    ]
    account.spot["us-east-1", "use1-az2", "g4dn.xlarge"] = [("2026-11-21T09:00:00Z", "0.32")]
    account.on_demand["us-east-1", "m5.large"] = "0.0960000000"
    account.on_demand["us-east-1", "g4dn.2xlarge"] = "0.0000000000"
    account.on_demand["us-east-1", "g4dn.xlarge"] = "0.5300000000"
    before = await prices(home)
    (_, first) = await refreshed(home, "")
    now = await prices(home)
    assert first == {
        "id": "us-east-1", "types": 3, "zones": 3, "spot_prices": 2, "on_demand_prices": 2, "failed": {}
    }  # fmt: skip
    assert now["use1-az1 spot"][0] == "0.31"
    assert now["use1-az2 spot"][0] == "0.32"
    assert now["use1-az1 on-demand"][0] == "0.53"
    assert now["use1-az1 spot"][1].startswith("DescribeSpotPriceHistory, 20")
    assert now["use1-az1 on-demand"][1].startswith("Price List API, 20")
    assert before["use1-az4 spot"][0] is not None
    assert now["use1-az4 spot"] == (None, "no source has it")
    assert now["usw2-az1 spot"] == before["usw2-az1 spot"]
    (row,) = [
        r for r in await listed(home, {"instance_type": "g4dn.xlarge"}) if "use1-az1 g4dn.xlarge spot" in r["text"]
    ]
    assert 0 <= row["age_s"] < 60
    assert row["offer"]["on_demand_usd_per_hour"] == "0.53"


async def test_a_region_that_fails_keeps_what_was_known_and_is_named(
    cloud: Cloud, account: Account, home: Path
) -> None:
    (home / "settings.yaml").write_text("aws: {enabled: true, regions: [us-east-1]}\n")
    before = await prices(home)
    cloud.troubles.append(Trouble("DescribeSpotPriceHistory", code="InternalError", status=500))
    cloud.troubles.append(Trouble("DescribeInstanceTypeOfferings", code="UnauthorizedOperation", status=403))
    account.on_demand["us-east-1", "g4dn.xlarge"] = "0.53"
    (told,) = await refreshed(home, "")
    assert list(told["failed"]) == ["zones", "spot prices"] or list(told["failed"]) == ["spot prices", "zones"]
    assert told["failed"]["spot prices"].startswith("InternalError")
    now = await prices(home)
    assert now["use1-az1 spot"] == before["use1-az1 spot"]
    assert now["use1-az1 on-demand"][0] == "0.53"
    assert now.keys() == before.keys()


async def test_when_nothing_is_read_nothing_is_changed(cloud: Cloud, home: Path) -> None:
    for action in ("DescribeSpotPriceHistory", "DescribeInstanceTypeOfferings", "DescribeInstanceTypes", "GetProducts"):
        cloud.troubles.append(Trouble(action, code="ExpiredToken", times=2))
    with pytest.raises(RunnerError, match=r"nothing was read, and what was known is kept: .*aws sso login"):
        await refreshed(home, "")
    assert not (home / "offers").exists()


async def test_no_cloud_is_asked_that_was_not_named(cloud: Cloud, home: Path) -> None:
    (home / "settings.yaml").write_text("")
    with pytest.raises(InvalidRequest, match="no cloud is enabled"):
        await refreshed(home, "")
    with pytest.raises(InvalidRequest, match="local has no catalogue"):
        await refreshed(home, "local")
    why = {row["refused"].partition(":")[0] for row in await listed(home, {"instance_type": "g4dn.xlarge"})}
    assert "AWS is not enabled in the settings" in why
    assert "" not in why
    assert cloud.calls == []


# Quotas


async def test_q1_quotas_are_read_beside_and_never_waited_for(cloud: Cloud, account: Account) -> None:
    provider: Provider = made()
    assert isinstance(provider, HasQuota)
    assert provider.quotas() == []
    await provider.offers(T4)
    assert provider.quotas() == []
    account.quotas["us-east-1", G_SPOT] = 8.0
    assert isinstance(provider, AwsProvider)
    await ladder(provider)
    assert [quota.cpus for quota in provider.quotas() if quota.pool == "aws/us-east-1/quota G and VT/spot"] == [8.0]
    asked = len(cloud.asked("ListServiceQuotas"))
    await ladder(provider)
    assert len(cloud.asked("ListServiceQuotas")) == asked == 3


async def test_what_is_listed_has_its_quotas_read(cloud: Cloud) -> None:
    """The first job is not the one that finds out."""
    provider = made()
    await provider.machines()
    asked = {region for action, region, _ in cloud.calls if action == "ListServiceQuotas"}
    await ladder(provider)
    assert {quota.pool.split("/")[1] for quota in provider.quotas()} == {"us-east-1"} >= asked


async def test_q2_what_cannot_be_read_refuses_nothing(cloud: Cloud) -> None:
    cloud.troubles.append(Trouble("ListServiceQuotas", code="AccessDeniedException", times=9))
    provider = made()
    assert all(rung.refused == "" for rung in (await ladder(provider)).rungs)
    await ladder(provider)
    assert len(cloud.asked("ListServiceQuotas")) == 1


async def test_a_quota_of_zero_says_what_to_ask_for(account: Account) -> None:
    account.quotas["us-east-1", G_SPOT] = 0.0
    found = await ladder(made())
    assert {rung.refused for rung in found.rungs if rung.offer.market is Market.SPOT} == {
        "the quota of G and VT spot vCPUs in us-east-1 is 0; ask for more: aws service-quotas "
        "request-service-quota-increase --region us-east-1 --service-code ec2 --quota-code L-3819A6DF "
        "--desired-value VCPUS"
    }
    assert found.best is not None
    assert found.best.market is Market.ON_DEMAND
    assert (await ladder(made(), replace(T4, market=MarketPolicy.SPOT))).impossible


async def test_what_is_larger_than_its_quota_is_refused_for_good(account: Account) -> None:
    account.quotas["us-east-1", G_SPOT] = account.quotas["us-east-1", G_ON_DEMAND] = 3.0
    found = await ladder(made())
    assert found.impossible
    assert found.rungs[0].refused.startswith("needs 4 vCPUs, and the quota of G and VT spot vCPUs in us-east-1 is 3;")


async def test_a_region_that_is_off_is_known_before_anything_is_launched(account: Account) -> None:
    account.off = ("eu-west-1",)
    provider = made(regions=("us-east-1", "eu-west-1"))
    await provider.machines()
    found = await ladder(provider, replace(T4, regions=()))
    assert {rung.offer.region for rung in found.rungs if not rung.refused} == {"us-east-1"}
    assert {rung.refused for rung in found.rungs if rung.refused} == {
        "region eu-west-1 is not enabled in this account; aws account enable-region --region-name eu-west-1, "
        "or leave it out of aws.regions"
    }


# Launching into an account that is not as it should be


async def launched(provider: AwsProvider, world: ProviderWorld, name: str, region: str = "us-east-1") -> Any:
    need = Need(gpu=parse_gpu("T4"), instance_type="g4dn.xlarge", regions=(region,))
    return await provider.launch(await order(provider, world, name, need))


async def test_a_launch_into_a_region_that_is_off_is_not_taken_for_wrong_credentials(
    account: Account, world: ProviderWorld
) -> None:
    account.off = ("eu-west-1",)
    provider = made(regions=("eu-west-1",))
    with pytest.raises(NoCapacity, match="region eu-west-1 is not enabled in this account; aws account enable") as no:
        await launched(provider, world, "runner-i-off", "eu-west-1")
    assert no.value.scope == "aws/eu-west-1"


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("ExpiredToken", Unauthorized, "have expired: renew them, for instance with `aws sso login`"),
        ("UnauthorizedOperation", Unauthorized, "runner doctor --provider aws"),
        ("VcpuLimitExceeded", QuotaExceeded, r"ask for more .*G and VT spot vCPUs in us-east-1 \(L-3819A6DF\)"),
        (
            "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
            NoCapacity,
            "once, as an administrator: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
        ),
    ],
)
async def test_what_to_do_is_on_the_same_line(
    cloud: Cloud, world: ProviderWorld, code: str, kind: type[RunnerError], says: str
) -> None:
    cloud.troubles.append(Trouble("RunInstances", code=code, status=403))
    with pytest.raises(kind) as refused:
        await launched(made(), world, f"runner-i-{code.lower()}")
    assert re.search(says, refused.value.line)
    assert len(refused.value.line.splitlines()) == 1


async def test_without_a_default_vpc_the_region_is_passed_over(world: ProviderWorld) -> None:
    import boto3

    client = boto3.client("ec2", region_name="eu-west-1")
    for subnet in client.describe_subnets()["Subnets"]:
        client.delete_subnet(SubnetId=subnet["SubnetId"])
    with pytest.raises(NoCapacity, match="eu-west-1 has no default VPC") as no:
        await launched(made(regions=("eu-west-1",)), world, "runner-i-vpc", "eu-west-1")
    assert (
        no.value.hint == "aws ec2 create-default-vpc --region eu-west-1, or name subnets in the settings: aws.subnets"
    )
    assert no.value.scope == "aws/eu-west-1"


async def test_an_image_of_the_wrong_architecture_says_what_to_name(cloud: Cloud, world: ProviderWorld) -> None:
    provider = made(image=cloud.images["us-east-1/arm64"])
    with pytest.raises(Rejected, match=r"is for arm64, and g4dn.xlarge is x86_64") as no:
        await launched(provider, world, "runner-i-arm")
    assert no.value.hint == "name an image of the machine's architecture, or another --instance-type"


async def test_a_spot_request_asks_for_what_was_reserved_and_no_more(cloud: Cloud, world: ProviderWorld) -> None:
    provider = made()
    wanted = await order(provider, world, "runner-i-ceiling", T4)
    assert wanted.offer.market is Market.SPOT
    await provider.launch(replace(wanted, ceiling_usd_per_hour=Decimal("0.526")))
    (asked,) = cloud.asked("RunInstances")
    assert asked["InstanceMarketOptions.SpotOptions.MaxPrice"] == "0.526"


# Doctor


def lines(home: Path) -> list[Line]:
    """Those about AWS."""
    return [
        line for line in examine(home, "aws") if any(w in line[1] for w in ("AWS", "us-east-1", "eu-", "mars", "Spot"))
    ]


def test_doctor_names_account_regions_quotas_and_network(account: Account, home: Path) -> None:
    account.quotas["us-east-1", "L-417A185B"] = 0.0
    del account.quotas["us-east-1", "L-C4BD4855"]
    (home / "settings.yaml").write_text("aws: {enabled: true, regions: [us-east-1]}\n")
    who, regions, *quotas, network, rights, role, until = lines(home)
    assert who == (True, "AWS account 123456789012, as arn:aws:sts::123456789012:user/moto")
    assert regions == (True, "2 regions are enabled: eu-west-1, us-east-1")
    assert [ok for ok, _ in quotas] == [True, True, True, None, None]
    assert quotas[0][1] == "us-east-1: G and VT spot (L-3819A6DF): 64 vCPUs"
    assert quotas[4][1].startswith(
        "us-east-1: P on-demand (L-417A185B): 0 vCPUs, nothing of it can be launched; ask for"
    )
    assert network[0] is True
    assert network[1].startswith("us-east-1: the default VPC in use1-az")
    by_tags = "ec2:RunInstances, ec2:TerminateInstances, ec2:CreateTags, ec2:CreateSecurityGroup"
    assert rights == (None, f"us-east-1: only a launch can tell whether these credentials may {by_tags}")
    assert role == (True, "EC2 Spot has its service-linked role")
    assert until == (True, "AWS: these credentials do not expire")


def test_doctor_says_what_is_wrong_and_what_to_do(account: Account, home: Path) -> None:
    account.off = ("eu-west-1",)
    account.forbidden = frozenset({"DescribeImages", "DescribeInstances"})
    account.spot_role = False
    (home / "settings.yaml").write_text("aws: {regions: [us-east-1, eu-west-1, mars-1]}\n")
    told = lines(home)
    off = "region eu-west-1 is not enabled in this account; aws account enable-region --region-name eu-west-1"
    assert [text.partition(", or")[0] for ok, text in told if ok is False] == [
        off,
        "there is no region mars-1; correct aws.regions in the settings",
        "us-east-1: these credentials may not ec2:DescribeInstances, ec2:DescribeImages; add them to their policy",
    ]
    notes = [text for ok, text in told if ok is None]
    assert notes[0].startswith("AWS is not enabled")
    assert notes[-1].endswith("aws iam create-service-linked-role --aws-service-name spot.amazonaws.com")


def test_doctor_without_a_default_vpc(home: Path) -> None:
    import boto3

    client = boto3.client("ec2", region_name="eu-west-1")
    for subnet in client.describe_subnets()["Subnets"]:
        client.delete_subnet(SubnetId=subnet["SubnetId"])
    (home / "settings.yaml").write_text("aws: {enabled: true, regions: [eu-west-1]}\n")
    (bad,) = [text for ok, text in lines(home) if ok is False]
    assert bad.startswith("eu-west-1 has no default VPC: aws ec2 create-default-vpc --region eu-west-1")


@pytest.mark.parametrize(
    ("code", "says"),
    [("ExpiredToken", "aws sso login"), ("InvalidClientTokenId", "InvalidClientTokenId"), ("", "no AWS credentials")],
)
def test_doctor_with_credentials_that_do_not_serve(
    cloud: Cloud, home: Path, monkeypatch: pytest.MonkeyPatch, code: str, says: str
) -> None:
    if code:
        cloud.troubles.append(Trouble("GetCallerIdentity", code=code, status=403))
    else:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    (bad,) = [text for ok, text in examine(home, "aws") if ok is False]
    assert says in bad
    assert len(bad.splitlines()) == 1


@pytest.mark.parametrize(
    ("sid", "says"),
    [
        ("KnowTypesPricesAndQuotas", "us-east-1: quotas cannot be read"),
        ("SeeWhetherSpotHasItsRole", "cannot tell whether EC2 Spot has its service-linked role"),
    ],
)
def test_without_this_statement_of_the_policy_doctor_cannot_tell(cloud: Cloud, home: Path, sid: str, says: str) -> None:
    (home / "settings.yaml").write_text("aws: {enabled: true, regions: [us-east-1]}\n")
    assert not any(says in text for _, text in lines(home))
    cloud.policy = Policy.shipped().without(sid)
    try:
        assert [ok for ok, text in lines(home) if says in text] == [None]
    finally:
        cloud.policy = Policy.shipped()
