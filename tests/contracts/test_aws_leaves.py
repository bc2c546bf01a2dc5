"""What EC2 keeps of machines: consoles of older hardware, who ended them, hard limits, and what they left behind."""

from __future__ import annotations

import contextlib
import functools
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from provisioner.app.offline import collect
from provisioner.domain.errors import ProviderError, Unauthorized, Unreachable
from provisioner.domain.leftover import Kind, Leftover
from provisioner.domain.policy import Policy
from provisioner.engine import Engine
from provisioner.providers.aws.account import Account
from provisioner.providers.aws.catalog import Catalog
from provisioner.providers.aws.provider import AwsProvider, Options
from provisioner.store.open import open_store
from tests.fakes import ec2
from tests.fakes.ec2 import Cloud
from tests.fakes.iam import Policy as Rights
from tests.fakes.trouble import Trouble

from .provider_laws import ProviderWorld, order, shows
from .test_provider_aws import MOTO, SystemClock, made

ROLE = "arn:aws:iam::123456789012:role/gpu-runner-limit"
AT = datetime(2031, 1, 5, 9, 15, tzinfo=UTC)
HERE = "us-east-1"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with ec2.cloud(tmp_path_factory.mktemp("ec2")) as running:
        yield running


@pytest.fixture(autouse=True)
def calm(cloud: Cloud) -> None:
    cloud.troubles, cloud.taken = [], set()
    cloud.calls.clear()


@pytest.fixture
def world() -> ProviderWorld:
    import asyncio

    return ProviderWorld("c-1", asyncio.sleep, lambda name: "{}", gpu="T4")


@functools.cache
def client(service: str = "ec2") -> Any:
    import boto3

    make: Any = boto3.client
    return make(service, region_name=HERE)


def tags(name: str, controller: str, **more: str) -> list[dict[str, str]]:
    ours = {"gpu-runner:name": name, "gpu-runner:controller": controller}
    ours |= {f"gpu-runner:{key.replace('_', '-')}": value for key, value in more.items()}
    return [{"Key": key, "Value": value} for key, value in ours.items() if value]


def volume(name: str, controller: str, **more: str) -> str:
    made = client().create_volume(
        AvailabilityZone=f"{HERE}a",
        Size=1,
        TagSpecifications=[{"ResourceType": "volume", "Tags": tags(name, controller, **more)}],
    )
    return str(made["VolumeId"])


async def here(provider: AwsProvider) -> dict[str, Leftover]:
    found = await provider.leftovers()
    assert [one.error for one in found] == [None] * len(found)
    return {one.ref: one for remains in found if remains.scope == HERE for one in remains.found}


async def test_older_hardware_has_no_newest_console(cloud: Cloud, world: ProviderWorld) -> None:
    provider = made()
    wanted = await order(provider, world, "runner-i-xen")
    launched = await provider.launch(wanted)
    cloud.troubles.append(Trouble("GetConsoleOutput", code="UnsupportedOperation"))
    assert "HIGHMEM" in await provider.console(launched.ref, wanted.name, launched.scope)
    assert [words.get("Latest") for words in cloud.asked("GetConsoleOutput")] == ["true", None]
    assert await provider.console("i-0123456789abcdef0", "runner-i-xen", HERE) == ""


async def test_e1_only_what_the_cloud_ended_itself_was_taken_back(cloud: Cloud, world: ProviderWorld) -> None:
    provider = made()
    wanted = await order(provider, world, "runner-i-e1")
    launched = await provider.launch(wanted)
    assert not await provider.taken_back(launched.ref, wanted.name, HERE)
    await provider.terminate(launched.ref, wanted.name, HERE)
    assert not await provider.taken_back(launched.ref, wanted.name, HERE)
    cloud.taken.add(launched.ref)
    assert await provider.taken_back(launched.ref, wanted.name, HERE)
    assert await provider.taken_back("", wanted.name, HERE)
    assert not await provider.taken_back("", "runner-i-never", HERE)


async def test_h1_a_limit_is_made_once_and_h2_lifted_for_good(cloud: Cloud) -> None:
    provider = made(limit_role=ROLE)
    for at in (AT, AT + timedelta(hours=1)):
        await provider.limit("i-0a", "runner-i-h1", HERE, at)
    (named,) = client("scheduler").list_schedules(NamePrefix="runner-i-h1")["Schedules"]
    made_it = client("scheduler").get_schedule(Name=named["Name"])
    assert made_it["ScheduleExpression"] == "at(2031-01-05T09:15:00)"
    assert (made_it["ScheduleExpressionTimezone"], made_it["ActionAfterCompletion"]) == ("UTC", "DELETE")
    assert made_it["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:ec2:terminateInstances"
    assert made_it["Target"]["RoleArn"] == ROLE
    assert json.loads(made_it["Target"]["Input"]) == {"InstanceIds": ["i-0a"]}
    assert {words["ClientToken"] for words in cloud.asked("CreateSchedule")} == {"runner-i-h1"}
    for _ in range(2):
        await provider.lift("runner-i-h1", HERE)
    assert client("scheduler").list_schedules(NamePrefix="runner-i-h1")["Schedules"] == []


async def test_h1_a_lost_answer_leaves_one_limit(cloud: Cloud) -> None:
    provider = made(limit_role=ROLE)
    cloud.troubles.append(Trouble("CreateSchedule", lose=True))
    with pytest.raises(Unreachable):
        await provider.limit("i-0b", "runner-i-h1lost", HERE, AT)
    await provider.limit("i-0b", "runner-i-h1lost", HERE, AT)
    assert len(client("scheduler").list_schedules(NamePrefix="runner-i-h1lost")["Schedules"]) == 1


async def test_h3_a_limit_that_nobody_lifted_is_left_over_once_its_machine_is_gone(
    cloud: Cloud, world: ProviderWorld
) -> None:
    provider, other = made(limit_role=ROLE), made("c-2", limit_role=ROLE)
    wanted = await order(provider, world, "runner-i-h3")
    launched = await provider.launch(wanted)
    await provider.limit(launched.ref, wanted.name, HERE, AT)
    assert wanted.name not in await here(provider)
    await provider.terminate(launched.ref, wanted.name, HERE)
    left = (await here(provider))[wanted.name]
    assert (left.kind, left.key, left.name) == (Kind.LIMIT, "hard-limit/runner-i-h3", wanted.name)
    assert wanted.name not in await here(other)
    for _ in range(2):
        await provider.remove(left)
    assert wanted.name not in await here(provider)


async def test_without_the_setting_no_schedule_is_asked_for(cloud: Cloud) -> None:
    provider = made()
    assert not provider.hard_limit
    await provider.leftovers()
    assert cloud.asked("ListSchedules") == []


async def test_r2_what_a_machine_has_is_not_left_over_and_what_it_had_is(cloud: Cloud, world: ProviderWorld) -> None:
    provider = made()
    wanted = await order(provider, world, "runner-i-r2")
    await provider.launch(wanted)
    await shows(provider, world, wanted.name)
    assert Kind.GROUP not in {one.kind for one in (await here(provider)).values()}
    mine, another, nobodys = volume("runner-i-gone", "c-1"), volume("runner-i-x", "c-2"), volume("a-disk", "")
    found = await here(provider)
    assert mine in found
    assert not {another, nobodys} & set(found)
    assert (found[mine].name, found[mine].controller, found[mine].scope) == ("runner-i-gone", "c-1", HERE)
    assert found[mine].made_at is not None
    attached = client().describe_volumes(Filters=[{"Name": "status", "Values": ["in-use"]}])["Volumes"]
    assert attached
    assert not {one["VolumeId"] for one in attached} & set(found)


async def test_r3_a_volume_an_interface_and_a_request_are_removed_for_good(cloud: Cloud, world: ProviderWorld) -> None:
    provider = made("c-r3")
    subnet = client().describe_subnets()["Subnets"][0]["SubnetId"]
    interface = client().create_network_interface(
        SubnetId=subnet, TagSpecifications=[{"ResourceType": "network-interface", "Tags": tags("runner-i-a", "c-r3")}]
    )["NetworkInterface"]["NetworkInterfaceId"]
    asked = client().request_spot_instances(
        InstanceCount=1,
        LaunchSpecification={"ImageId": cloud.images[f"{HERE}/x86_64"], "InstanceType": "c5.large"},
        TagSpecifications=[{"ResourceType": "spot-instances-request", "Tags": tags("runner-i-b", "c-r3")}],
    )["SpotInstanceRequests"][0]
    client().terminate_instances(InstanceIds=[asked["InstanceId"]])
    wanted = {volume("runner-i-c", "c-r3"), interface, asked["SpotInstanceRequestId"]}
    found = await here(provider)
    assert {ref for ref in found if found[ref].kind is not Kind.GROUP} == wanted
    for left in found.values():
        for _ in range(2):
            await provider.remove(left)
    assert await here(provider) == {}


async def test_r3_the_group_goes_when_nothing_is_in_it_and_is_made_again(cloud: Cloud, world: ProviderWorld) -> None:
    provider = made("c-group")
    wanted = replace(await order(provider, world, "runner-i-group"), controller="c-group")
    launched = await provider.launch(wanted)
    groups = client().describe_security_groups(Filters=[{"Name": "tag:gpu-runner:controller", "Values": ["c-group"]}])
    group = Leftover(Kind.GROUP, groups["SecurityGroups"][0]["GroupId"], HERE, "c-group")
    cloud.troubles.append(Trouble("DeleteSecurityGroup", code="DependencyViolation"))
    with pytest.raises(Unreachable, match="DependencyViolation"):
        await provider.remove(group)
    await provider.terminate(launched.ref, wanted.name, HERE)
    left = await here(provider)
    assert [one.kind for one in left.values()] == [Kind.GROUP]
    for _ in range(2):
        await provider.remove(group)
    assert await here(provider) == {}
    await provider.launch(replace(wanted, name="runner-i-group2"))
    assert len(cloud.asked("CreateSecurityGroup")) == 2


async def test_r3_what_is_in_use_stays(cloud: Cloud, world: ProviderWorld) -> None:
    provider = made("c-used")
    wanted = replace(await order(provider, world, "runner-i-used"), controller="c-used")
    launched = await provider.launch(wanted)
    rows = client().describe_instances(InstanceIds=[launched.ref])["Reservations"][0]["Instances"][0]
    used = rows["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    with pytest.raises(Unreachable, match="VolumeInUse"):
        await provider.remove(Leftover(Kind.VOLUME, used, HERE, "c-used", wanted.name))
    for code, says in (("InvalidParameterValue", "eni-1 is currently in use"), ("InvalidNetworkInterface.InUse", "")):
        cloud.troubles.append(Trouble("DeleteNetworkInterface", code=code, message=says))
        with pytest.raises(Unreachable):
            await provider.remove(Leftover(Kind.INTERFACE, "eni-1", HERE, "c-used", wanted.name))


async def test_r1_a_region_that_cannot_be_listed_is_an_error(cloud: Cloud) -> None:
    provider = made()
    await provider.leftovers()
    cloud.troubles.append(Trouble("DescribeVolumes", code="RequestLimitExceeded", status=503))
    found = await provider.leftovers()
    assert sorted(remains.complete for remains in found) == [False, True]
    assert [remains.found for remains in found if not remains.complete] == [()]
    cloud.troubles.append(Trouble("DeleteVolume", code="UnauthorizedOperation", status=403))
    with pytest.raises(Unauthorized):
        await provider.remove(Leftover(Kind.VOLUME, "vol-0a", HERE, "c-1", "runner-i-x"))


async def test_whoever_made_it_what_is_past_its_tag_is_found(cloud: Cloud) -> None:
    expires = "2026-01-05T09:00:00+00:00"
    old = volume("runner-i-lost", "c-lost", expires_at=expires)
    clock = SystemClock()
    options = Options(image_owners=frozenset({MOTO}))
    anyone = AwsProvider(Account(clock), Catalog(), clock, "", lambda order: "", options, any_controller=True)
    left = (await here(anyone))[old]
    assert (left.controller, left.tags["expires-at"]) == ("c-lost", expires)
    await anyone.remove(left)
    assert old not in await here(anyone)


async def test_without_a_database_what_is_past_its_tag_goes_and_nothing_else(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("aws: {enabled: true}\n")
    old = volume("runner-i-old", "c-lost", expires_at="2026-01-05T09:00:00+00:00")
    new = volume("runner-i-new", "c-lost", expires_at="2099-01-05T09:00:00+00:00")
    named = [f"volume/{old}"]
    assert await collect(tmp_path, dry_run=True, expired=True) == {"found": named, "ended": []}
    assert await collect(tmp_path, dry_run=False, expired=True) == {"found": named, "ended": named}
    there = {one["VolumeId"] for one in client().describe_volumes()["Volumes"]}
    assert new in there
    assert old not in there


async def handed_over(world: ProviderWorld, controller: str, expires_at: datetime) -> str:
    """Launched by a CI step's own controller, and left by it: its id."""
    provider, name = made(controller, passing=True), f"runner-i-{controller}"
    wanted = replace(await order(provider, world, name), controller=controller, expires_at=expires_at)
    launched = await provider.launch(wanted)
    await provider.hand_over(launched.ref, name, HERE)
    return launched.ref


def states(*ids: str) -> list[str]:
    rows = client().describe_instances(InstanceIds=list(ids))["Reservations"]
    found = {one["InstanceId"]: one["State"]["Name"] for row in rows for one in row["Instances"]}
    return [found[id] for id in ids]


def groups(controller: str) -> list[str]:
    filters = [{"Name": "tag:gpu-runner:controller", "Values": [controller]}]
    return [one["GroupId"] for one in client().describe_security_groups(Filters=filters)["SecurityGroups"]]


async def test_what_was_handed_over_is_left_alone_by_other_controllers_and_goes_when_it_is_overdue(
    cloud: Cloud, world: ProviderWorld, tmp_path: Path
) -> None:
    now, clock = datetime.now(UTC), SystemClock()
    store = await open_store("sqlite://", secret_key=b"k" * 32, inline=True)
    own = await store.records.controller_id()  # one that has lost its rows
    late = await handed_over(world, "c-late", now - timedelta(hours=1))
    young = await handed_over(world, own, now + timedelta(hours=1))
    for controller in ("c-2", own):
        engine = Engine(
            store=store,
            providers={"aws": made(controller)},
            clock=clock,
            policy=replace(Policy(), collect_min_age_s=0.0),
            rng=random.Random(1),
            config_for=None,  # type: ignore[arg-type]
            holder="test",
        )
        assert await engine.collect_now() == {"found": [], "ended": []}
    await store.close()
    assert states(late, young) == ["running", "running"]
    (tmp_path / "settings.yaml").write_text("aws: {enabled: true}\n")
    (group,) = groups("c-late")
    done = await collect(tmp_path, dry_run=False, expired=True)
    assert {"runner-i-c-late", f"security-group/{group}"} <= set(done["ended"])
    assert states(late, young) == ["terminated", "running"]
    assert (groups("c-late"), len(groups(own))) == ([], 1)
    spared = await collect(tmp_path, dry_run=True, expired=True, but=own)
    assert spared["found"] == []


async def each_of_it(provider: AwsProvider, world: ProviderWorld, name: str) -> None:
    """A machine is limited, read and left behind in part; whatever is refused is passed over."""
    wanted = await order(provider, world, name)
    launched = await provider.launch(wanted)
    with contextlib.suppress(ProviderError):
        await provider.limit(launched.ref, name, HERE, AT)
    for look in (provider.console, provider.hand_over):
        with contextlib.suppress(ProviderError):
            await look(launched.ref, name, HERE)
    await provider.terminate(launched.ref, name, HERE)
    left = Leftover(Kind.VOLUME, volume(name, "c-1"), HERE, "c-1", name)
    for work in (provider.leftovers(), provider.remove(left), provider.lift(name, HERE)):
        with contextlib.suppress(ProviderError):
            await work


@pytest.mark.parametrize(
    "sid",
    [
        "",
        "SeeWhatWasLeft",
        "RemoveWhatWeLeft",
        "ReadOurConsoles",
        "HandOverOurMachines",
        "LimitOurMachines",
        "SeeTheLimits",
        "GiveTheLimitItsRole",
    ],
)
async def test_each_of_these_statements_of_the_policy_is_needed(cloud: Cloud, world: ProviderWorld, sid: str) -> None:
    cloud.policy, cloud.denied = Rights.shipped().without(sid) if sid else Rights.shipped(), []
    try:
        await each_of_it(made(limit_role=ROLE), world, f"runner-i-{sid.lower() or 'all'}")
        assert bool(cloud.denied) is bool(sid), cloud.denied
    finally:
        cloud.policy = Rights.shipped()
