"""The policy that ships for AWS is enough, each of its statements is needed, and it allows nothing beside what it says.

Every contract test of the provider and every system test on AWS runs under it as well (tests/fakes/ec2.py).
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provisioner.domain.errors import Unauthorized
from provisioner.domain.offer import Market
from provisioner.providers.aws import provider as aws
from tests.fakes import iam
from tests.fakes.ec2 import PROGRAM
from tests.fakes.fastec2 import FastCloud, fast_cloud
from tests.fakes.iam import Ask, Policy

from .provider_laws import ProviderWorld, order
from .test_provider_aws import made

# What fails, and on what, once the statement is gone; @ is our part of the account.
NEEDED = {
    "SeeWhatIsThere": "ec2:Describe",
    "FindThePublishersImages": "ssm:GetParameter on resource: arn:aws:ssm:us-east-1::parameter/aws/service/",
    "LaunchFromAnyImageIntoAnySubnet": "ec2:RunInstances on resource: arn:aws:ec2:us-east-1::image/ami-",
    "LaunchIntoOurSecurityGroups": "ec2:RunInstances on @security-group/sg-",
    "LaunchOnlyWhatCarriesOurTags": "ec2:RunInstances on @instance/*",
    "MakeSecurityGroupsInAnyVpc": "ec2:CreateSecurityGroup on @vpc/vpc-",
    "MakeOnlySecurityGroupsThatCarryOurTag": "ec2:CreateSecurityGroup on @security-group/*",
    "OpenAndShutOurSecurityGroups": "ec2:AuthorizeSecurityGroupIngress on @security-group/sg-",
    "TagWhatIsBeingMadeAndNothingElse": "ec2:CreateTags on @security-group/*",
    "EndOnlyOurMachines": "ec2:TerminateInstances on @instance/i-",
    "GiveMachinesTheirRole": "iam:PassRole on resource: arn:aws:iam::123456789012:role/gpu-runner-machine",
}
# A launch goes on without. What they are for is shown in test_aws_account and test_aws_leaves.
BESIDE = {
    "KnowTypesPricesAndQuotas",
    "SeeWhetherSpotHasItsRole",
    "SeeWhatWasLeft",
    "RemoveWhatWeLeft",
    "ReadOurConsoles",
    "HandOverOurMachines",
    "LimitOurMachines",
    "SeeTheLimits",
    "GiveTheLimitItsRole",
}
# Needs no right.
FREE = {"sts:GetCallerIdentity"}
# Authorized within a call that makes something, and no call of ours by themselves.
WITHIN = {"ec2:CreateTags", "iam:PassRole"}


@pytest.fixture
def fast() -> Iterator[FastCloud]:
    with fast_cloud(limits=None, profiles={"training": ["gpu-runner-machine"], "other": ["administrator"]}) as running:
        yield running


def world() -> ProviderWorld:
    return ProviderWorld("c-1", asyncio.sleep, lambda name: "{}", gpu="T4")


async def everything(profile: str = "training") -> None:
    """One of each call: a spot machine with a role is launched into a group made for it, which is opened and shut, and
    it is ended, and looked for."""
    provider = made(instance_profile=profile, ssh_from="198.51.100.7/32")
    cheapest = await order(provider, world(), "runner-i-all")
    spot = replace(cheapest, offer=replace(cheapest.offer, market=Market.SPOT))
    machine = await provider.launch(spot)
    for scopes in ({"us-east-1"}, set[str]()):
        await provider.admit(scopes)
    for _ in range(2):
        await provider.terminate(machine.ref, machine.name, machine.scope)
    assert all(listing.complete for listing in await provider.machines())


def statements() -> list[dict[str, Any]]:
    return list(json.loads(iam.SHIPPED.read_text())["Statement"])


async def test_it_is_enough(fast: FastCloud) -> None:
    await everything()
    (machine,) = fast.machines().by_id.values()
    assert machine.state == "terminated"
    assert fast.denied == [f"ec2:TerminateInstances on arn:aws:ec2:us-east-1:123456789012:instance/{machine.id}"]


async def test_whatever_the_program_calls_is_in_it_and_nothing_else_is(fast: FastCloud) -> None:
    await everything()
    recorded = {f"{'ssm' if name == 'GetParameter' else 'ec2'}:{name}" for name, *_ in fast.calls}
    granted = {action for one in statements() if one["Sid"] not in BESIDE for action in iam._many(one["Action"])}
    assert recorded == granted - WITHIN
    beside = {action for one in statements() if one["Sid"] in BESIDE for action in iam._many(one["Action"])}
    named = {action.partition(":")[2] for action in recorded | beside | FREE}
    assert set(_operations()) <= named


def _operations() -> Iterator[str]:
    """Names of all calls in the provider's sources."""
    for path in Path(aws.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("call", "pages")
            ):
                words = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                yield from ("".join(part.capitalize() for part in word.split("_")) for word in words if word.islower())


def test_every_statement_has_a_call_that_needs_it() -> None:
    assert [one["Sid"] for one in statements() if one["Sid"] not in BESIDE] == list(NEEDED)


@pytest.mark.parametrize("sid", NEEDED)
async def test_without_this_statement_a_call_fails(fast: FastCloud, sid: str) -> None:
    fast.policy = Policy.shipped().without(sid)
    with pytest.raises(Unauthorized, match="is not authorized to perform") as refused:
        await everything()
    what = NEEDED[sid].replace("@", "resource: arn:aws:ec2:us-east-1:123456789012:")
    assert f"perform: {what}" in refused.value.message
    assert "Encoded authorization failure" not in refused.value.message


async def test_a_role_that_it_does_not_name_is_not_given_to_a_machine(fast: FastCloud) -> None:
    with pytest.raises(Unauthorized, match=r"iam:PassRole on resource: \S+:role/administrator"):
        await everything("other")
    assert fast.machines().by_id == {}


@pytest.fixture
def ours(fast: FastCloud) -> Any:
    """EC2 with the program's own rights and none of its care."""
    import boto3
    from botocore.config import Config

    config = Config(user_agent_extra=PROGRAM, retries={"total_max_attempts": 1})
    return boto3.client("ec2", region_name="us-east-1", config=config)


def launch(client: Any, fast: FastCloud, **more: Any) -> str:
    region = fast.regions["us-east-1"]
    answer = client.run_instances(
        ImageId=region.images["x86_64"],
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        SubnetId="subnet-us-east-1-1",
        NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": "subnet-us-east-1-1", "Groups": []}],
        **more,
    )
    return str(answer["Instances"][0]["InstanceId"])


def theirs(fast: FastCloud) -> str:
    """A machine of somebody else in the account."""
    import boto3

    return launch(boto3.client("ec2", region_name="us-east-1"), fast)


def specification(kind: str, **tags: str) -> dict[str, Any]:
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def denied(call: Any, **words: Any) -> str:
    """What the answer says was not allowed."""
    from botocore.exceptions import ClientError

    with pytest.raises(ClientError) as refused:
        call(**words)
    said = refused.value.response
    assert said["Error"]["Code"] == "UnauthorizedOperation"
    assert said["ResponseMetadata"]["HTTPStatusCode"] == 403
    match = re.search(r"perform: (\S+) on resource: (\S+) because .* Encoded authorization failure message: \S{40,}",
                      said["Error"]["Message"])  # fmt: skip
    assert match is not None
    return f"{match[1]} {match[2].rpartition(':')[2]}"


def test_a_machine_of_somebody_else_is_not_ended_and_cannot_be_made_ours(fast: FastCloud, ours: Any) -> None:
    machine = theirs(fast)
    assert denied(ours.terminate_instances, InstanceIds=[machine]) == f"ec2:TerminateInstances instance/{machine}"
    tag = {"Key": "gpu-runner:controller", "Value": "c-1"}
    assert denied(ours.create_tags, Resources=[machine], Tags=[tag]) == f"ec2:CreateTags instance/{machine}"
    assert fast.machines().by_id[machine].state == "running"


def test_nothing_is_launched_without_our_tags_or_into_a_group_of_others(fast: FastCloud, ours: Any) -> None:
    tags = {"gpu-runner:name": "runner-i-x", "gpu-runner:controller": "c", "gpu-runner:expires-at": "2026-01-01"}
    every = [specification(kind, **tags) for kind in ("instance", "volume", "network-interface")]
    words: dict[str, Any] = {"call": launch, "client": ours, "fast": fast}
    assert denied(**words) == "ec2:RunInstances instance/*"
    assert denied(**words, TagSpecifications=every[:1]) == "ec2:RunInstances network-interface/*"
    other = [specification("instance", **(tags | {"gpu-runner:name": "theirs"})), *every[1:]]
    assert denied(**words, TagSpecifications=other) == "ec2:RunInstances instance/*"
    more = [specification("instance", **tags, Department="7"), *every[1:]]
    assert denied(**words, TagSpecifications=more) == "ec2:CreateTags instance/*"
    import boto3

    group = boto3.client("ec2", region_name="us-east-1").create_security_group(
        GroupName="open", Description="of others", VpcId=fast.regions["us-east-1"].vpc
    )["GroupId"]
    assert (
        denied(**words, TagSpecifications=every, SecurityGroupIds=[group]) == f"ec2:RunInstances security-group/{group}"
    )
    assert launch(**{key: value for key, value in words.items() if key != "call"}, TagSpecifications=every)


async def test_no_other_parameter_is_read(fast: FastCloud) -> None:
    wanted = await order(made(), world(), "runner-i-parameter")
    with pytest.raises(Unauthorized, match=r"AccessDeniedException.*ssm:GetParameter"):
        await made().launch(replace(wanted, image="/our/secrets/database"))


def test_what_the_emulation_does_not_understand_it_does_not_judge() -> None:
    unknown: tuple[dict[str, Any], ...] = (
        {"Effect": "Deny"},
        {"NotAction": "*"},
        {"Condition": {"StringEqualsIfExists": {}}},
    )
    for wrong in unknown:
        with pytest.raises(ValueError, match="not understood"):
            Policy(({"Sid": "x", "Effect": "Allow", "Action": "*", "Resource": "*", **wrong},))


def test_an_action_that_it_does_not_name_is_denied() -> None:
    assert not Policy.shipped().allows(Ask("ec2:StopInstances", "*", {}))
    assert not Policy.shipped().allows(Ask("s3:GetObject", "*", {}))


def test_it_fits_a_managed_policy() -> None:
    """6,144 characters without white space. Source: IAM user guide, "IAM and AWS STS quotas"."""
    assert len(re.sub(r"\s", "", iam.SHIPPED.read_text())) <= 6144
