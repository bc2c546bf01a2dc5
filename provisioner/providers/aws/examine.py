"""`runner doctor --provider aws`: whose credentials these are, and what of a launch they and the account allow.

Nothing is made: what changes something is asked for as a dry run, to which EC2 answers whether it would have been
allowed. Each line says whether it is fine, and what to do if it is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from provisioner.domain.errors import ProviderError, Unauthorized
from provisioner.domain.offer import Market

from .account import Account
from .network import no_default_vpc
from .pace import Calls
from .pools import quota_code
from .provider import Options, switched_off
from .quotas import ask_for, quota_values

Line = tuple[bool | None, str]
_GPU_FAMILIES = (
    ("G and VT", Market.SPOT),
    ("G and VT", Market.ON_DEMAND),
    ("P4, P3 and P2", Market.SPOT),
    ("P5", Market.SPOT),
    ("P", Market.ON_DEMAND),
)
_SPOT_ROLE = "AWSServiceRoleForEC2Spot"
MAKE_SPOT_ROLE = "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"
_NOBODY = "00000000000000000"
# Calls that a controller makes and that can be tried without effect. Source: EC2's own service model, `DryRun`.
_TRIED: Mapping[str, Mapping[str, Any]] = {
    "run_instances": {"ImageId": f"ami-{_NOBODY}", "InstanceType": "g4dn.xlarge", "MinCount": 1, "MaxCount": 1},
    "terminate_instances": {"InstanceIds": [f"i-{_NOBODY}"]},
    "create_tags": {"Resources": [f"i-{_NOBODY}"], "Tags": [{"Key": "gpu-runner:name", "Value": "doctor"}]},
    "create_security_group": {"GroupName": "gpu-runner-doctor", "Description": "a dry run"},
    "describe_instances": {},
    "describe_images": {"ImageIds": [f"ami-{_NOBODY}"]},
    "describe_subnets": {},
    "describe_security_groups": {},
    "describe_instance_types": {},
    "describe_instance_type_offerings": {},
    "describe_spot_price_history": {},
}
# A policy that goes by tags, such as ours, denies a trial on things without any.
_BY_TAGS = frozenset({"run_instances", "terminate_instances", "create_tags", "create_security_group"})


async def examine(account: Account, options: Options) -> list[Line]:
    """Every region that the settings name, or the default one."""
    try:
        default = await account.default_region()
        who = await account.call(Calls.READ, default, "get_caller_identity", service="sts")
    except ProviderError as error:
        return [(False, error.line)]
    lines: list[Line] = [(True, f"AWS account {who['Account']}, as {who['Arn']}")]
    enabled, told = await _regions(account, default, options.regions)
    lines += told
    looked_at = [region for region in options.regions or (default,) if not enabled or region in enabled]
    for found in await asyncio.gather(*(_region(account, region, options) for region in looked_at)):
        lines += found
    return [*lines, await _spot_role(account, default)]


async def _regions(account: Account, first: str, wanted: Sequence[str]) -> tuple[frozenset[str], list[Line]]:
    """Those that are enabled (nothing where that cannot be told), and what there is to say of those that are wanted."""
    try:
        rows = (await account.call(Calls.READ, first, "describe_regions", AllRegions=True))["Regions"]
    except ProviderError as error:
        return frozenset(), [(False, f"regions cannot be listed: {error.line}")]
    enabled = frozenset(row["RegionName"] for row in rows if row.get("OptInStatus") != "not-opted-in")
    known = {row["RegionName"] for row in rows}
    lines: list[Line] = [(True, f"{len(enabled)} regions are enabled: {', '.join(sorted(enabled))}")]
    for region in wanted:
        if region not in known:
            lines.append((False, f"there is no region {region}; correct aws.regions in the settings"))
        elif region not in enabled:
            lines.append((False, switched_off(region)))
    return enabled, lines


async def _region(account: Account, region: str, options: Options) -> list[Line]:
    told = await asyncio.gather(
        _quotas(account, region), _network(account, region, options), _permissions(account, region)
    )
    return [line for lines in told for line in lines]


async def _quotas(account: Account, region: str) -> list[Line]:
    try:
        values = await quota_values(account, region)
    except ProviderError as error:
        return [(None, f"{region}: quotas cannot be read, so none is checked before a launch: {error.line}")]
    lines: list[Line] = []
    for family, market in _GPU_FAMILIES:
        code = quota_code(family, market)
        limit = values.get(code)
        words = f"{region}: {family} {market} ({code})"
        if limit is None:
            lines.append((None, f"{words}: the quota is not known"))
        elif limit:
            lines.append((True, f"{words}: {limit:g} vCPUs"))
        else:
            lines.append(
                (None, f"{words}: 0 vCPUs, nothing of it can be launched; ask for more: {ask_for(region, code)}")
            )
    return lines


async def _network(account: Account, region: str, options: Options) -> list[Line]:
    named = list(options.subnets.get(region, ()))
    words: dict[str, Any] = {"SubnetIds": named} if named else {}
    if not named:
        words["Filters"] = [{"Name": "default-for-az", "Values": ["true"]}]
    try:
        rows = (await account.call(Calls.READ, region, "describe_subnets", **words))["Subnets"]
    except ProviderError as error:
        return [(False, f"{region}: subnets cannot be looked up: {error.line}")]
    if not rows:
        return [(False, f"{region} has no default VPC: {no_default_vpc(region)}")]
    zones = ", ".join(sorted(row["AvailabilityZoneId"] for row in rows))
    return [(True, f"{region}: {'subnets of the settings' if named else 'the default VPC'} in {zones}")]


async def _permissions(account: Account, region: str) -> list[Line]:
    """What is missing, in one line."""
    answers = await asyncio.gather(*(_allowed(account, region, name, words) for name, words in _TRIED.items()))
    missing = [_action(name) for name, answer in zip(_TRIED, answers, strict=True) if answer is False]
    untold = [_action(name) for name, answer in zip(_TRIED, answers, strict=True) if answer is None]
    lines: list[Line] = []
    if missing:
        lines.append((False, f"{region}: these credentials may not {', '.join(missing)}; add them to their policy"))
    if untold:
        lines.append((None, f"{region}: only a launch can tell whether these credentials may {', '.join(untold)}"))
    if not lines:
        lines.append((True, f"{region}: all {len(_TRIED)} EC2 calls that were tried are allowed"))
    return lines


async def _allowed(account: Account, region: str, name: str, words: Mapping[str, Any]) -> bool | None:
    try:
        await account.call(Calls.READ, region, name, DryRun=True, **words)
    except Unauthorized as error:
        said_no = error.message.startswith("UnauthorizedOperation") and name not in _BY_TAGS
        return False if said_no else None
    except ProviderError as error:
        return True if error.message.startswith("DryRunOperation") else None
    return True


def _action(name: str) -> str:
    return "ec2:" + "".join(word.capitalize() for word in name.split("_"))


async def _spot_role(account: Account, region: str) -> Line:
    try:
        await account.call(Calls.READ, region, "get_role", service="iam", RoleName=_SPOT_ROLE)
    except ProviderError as error:
        if "NoSuchEntity" in error.message:
            return None, f"the service-linked role of EC2 Spot is missing; once, as an administrator: {MAKE_SPOT_ROLE}"
        return None, f"cannot tell whether EC2 Spot has its service-linked role: {error.message}"
    return True, "EC2 Spot has its service-linked role"
