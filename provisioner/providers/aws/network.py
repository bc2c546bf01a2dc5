"""Where in the account's network a machine goes: a subnet of its zone, and a security group that lets nothing in.

The subnets are those that the settings name, or else those of the default VPC. The group is made once for each VPC,
tagged as this controller's, and used by all of its machines: the agent dials out, so no rule is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from provisioner.domain.errors import NoCapacity, ProviderError
from provisioner.domain.offer import Offer

from .account import Account
from .pace import Calls
from .pools import region_pool
from .tags import Tags


@dataclass(frozen=True, slots=True)
class Place:
    subnet: str
    group: str


class Network:
    """`subnets` and `groups` by region are what the settings name, and are used as they are. `made(region, group)`
    hears of each group at once."""

    def __init__(
        self,
        account: Account,
        tags: Tags,
        subnets: Mapping[str, Sequence[str]] | None = None,
        groups: Mapping[str, str] | None = None,
        made: Callable[[str, str], None] = lambda region, group: None,
    ) -> None:
        self._account = account
        self._tags = tags
        self._subnets = subnets or {}
        self._groups = groups or {}
        self._told = made
        self._of_zone: dict[str, dict[str, tuple[str, str]]] = {}
        self._made: dict[tuple[str, str], str] = {}
        self._turn = asyncio.Lock()

    async def of(self, offer: Offer, expires_at: datetime | None = None) -> Place:
        """`expires_at`: when a group that is made now may be removed by anybody. Raises: NoCapacity where the zone has
        no subnet, ProviderError."""
        async with self._turn:
            if offer.region not in self._of_zone:
                self._of_zone[offer.region] = await self._look(offer)
            subnet, vpc = self._subnet(offer)
            return Place(subnet, await self._group(offer, vpc, expires_at))

    def forget(self, region: str) -> None:
        """Look again the next time: what was known is refused."""
        self._of_zone.pop(region, None)
        self._made = {key: group for key, group in self._made.items() if key[0] != region}

    def _subnet(self, offer: Offer) -> tuple[str, str]:
        zones = self._of_zone[offer.region]
        if offer.zone in zones:
            return zones[offer.zone]
        if self._subnets.get(offer.region):
            where, cure = f"zone {offer.zone} has no subnet that the settings name", "add one to aws.subnets"
        elif zones:
            where = f"zone {offer.zone} has no subnet of the default VPC"
            cure = "aws ec2 create-default-subnet, or name subnets in the settings: aws.subnets"
        else:
            where, cure = f"{offer.region} has no default VPC", no_default_vpc(offer.region)
        scope = f"aws/{offer.zone}" if zones else region_pool(offer.region)
        raise NoCapacity(where, hint=cure, scope=scope, cooldown_s=3600.0)

    async def _look(self, offer: Offer) -> dict[str, tuple[str, str]]:
        """Subnet and VPC by zone id. Of several in a zone the one with the most free addresses."""
        named = list(self._subnets.get(offer.region, ()))
        words: dict[str, Any] = {"SubnetIds": named} if named else {}
        if not named:
            words["Filters"] = [{"Name": "default-for-az", "Values": ["true"]}]
        answer = await self._account.call(Calls.READ, offer.region, "describe_subnets", offer=offer, **words)
        rows = sorted(answer["Subnets"], key=lambda row: int(row.get("AvailableIpAddressCount", 0)))
        return {row["AvailabilityZoneId"]: (row["SubnetId"], row["VpcId"]) for row in rows}

    async def _group(self, offer: Offer, vpc: str, expires_at: datetime | None) -> str:
        if named := self._groups.get(offer.region):
            return named
        key = offer.region, vpc
        if key not in self._made:
            self._made[key] = await self._found(offer.region, vpc) or await self._make(offer, vpc, expires_at)
        return self._made[key]

    async def _found(self, region: str, vpc: str) -> str:
        filters = [*self._tags.filters(), {"Name": "vpc-id", "Values": [vpc]}]
        groups = await self._account.pages(region, "describe_security_groups", "SecurityGroups", Filters=filters)
        return str(groups[0]["GroupId"]) if groups else ""

    async def _make(self, offer: Offer, vpc: str, expires_at: datetime | None) -> str:
        try:
            answer = await self._account.call(
                Calls.CHANGE,
                offer.region,
                "create_security_group",
                offer=offer,
                GroupName=self._tags.group_name,
                Description="Machines of gpu-runner: nothing comes in",
                VpcId=vpc,
                TagSpecifications=[{"ResourceType": "security-group", "Tags": self._tags.of_group(expires_at)}],
            )
        except ProviderError as error:
            if "InvalidGroup.Duplicate" in error.message and (found := await self._found(offer.region, vpc)):
                return found
            raise
        self._told(offer.region, str(answer["GroupId"]))
        return str(answer["GroupId"])


def no_default_vpc(region: str) -> str:
    """What to do about it."""
    return f"aws ec2 create-default-vpc --region {region}, or name subnets in the settings: aws.subnets"
