"""EC2 as a Provider.

A machine is launched under its own name as EC2's client token, so that a lost answer leads back to the same machine,
and carries every tag from that call on. What was launched is looked for in every region that the account has enabled,
whatever the settings allow now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from provisioner.domain.errors import NoCapacity, ProviderError, Rejected, Unauthorized, Unreachable
from provisioner.domain.job import Need
from provisioner.domain.leftover import Kind, Leftover, Remains
from provisioner.domain.offer import LaunchOrder, Listing, Machine, MachineState, Market, Offer
from provisioner.domain.place import Quota
from provisioner.domain.ports import Clock

from .account import Account
from .catalog import Catalog
from .door import Door
from .images import OWNERS, Images
from .latest import Latest
from .leftovers import Leftovers
from .limits import HardLimits
from .network import Network
from .pace import Calls
from .pools import region_pool
from .quotas import Quotas
from .tags import Tags, read

_REGIONS_KEPT_S = 3600.0  # arbitrary: a region is enabled by hand
_STATES = {
    "pending": MachineState.PENDING,
    "running": MachineState.RUNNING,
    "shutting-down": MachineState.STOPPING,
    "stopping": MachineState.STOPPING,
    "stopped": MachineState.STOPPED,
}
# Refusals of what was looked up here and may be gone: it is looked up again, which says so if it is gone for good.
_OVER = "terminated"  # still shown for about an hour, and never anything else again. Source: EC2 instance lifecycle
_OUT_OF_DATE = ("InvalidAMIID", "InvalidSubnetID", "InvalidGroup")
_AGAIN = "runner gc shows what is there"
_OLD_HARDWARE = "UnsupportedOperation"  # no newest console there, only what was kept of it at the last boot
_TAKEN = "Server.Spot"  # begins the reason of what EC2 took back. Source: StateReason in the EC2 API reference.


@dataclass(frozen=True, slots=True)
class Options:
    """What the settings say of AWS. `regions` limits where is launched, not where is looked; () are all enabled ones.
    `disk_gib` is the root disk when a job asks for none; `ssh_from` the CIDR of this controller, "" to ask.
    `limit_role` is the role under which EventBridge terminates what has reached its hard limit; "": there is none.
    `passing`: nobody collects what this controller leaves, so that all of it says when it is overdue."""

    regions: tuple[str, ...] = ()
    image: str = ""
    subnets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    security_groups: Mapping[str, str] = field(default_factory=dict)
    instance_profile: str = ""
    ssh_from: str = ""
    limit_role: str = ""
    disk_gib: float = 100.0
    passing: bool = False
    image_owners: frozenset[str] = OWNERS


class AwsProvider:
    """`user_data` makes what a machine is told at its first boot; `controller` is whose machines are listed.

    `any_controller`: list everybody's (to collect what has expired).
    """

    name = "aws"

    def __init__(
        self,
        account: Account,
        catalog: Catalog | Latest,
        clock: Clock,
        controller: str,
        user_data: Callable[[LaunchOrder], str],
        options: Options | None = None,
        *,
        any_controller: bool = False,
        visibility_s: float = 120.0,
    ) -> None:
        self.visibility_s = visibility_s
        self._account = account
        self._catalog = catalog
        self._clock = clock
        self._user_data = user_data
        self._options = options or Options()
        self._tags = Tags(controller, any_controller)
        self._images = Images(account, self._options.image_owners)
        self._door = Door(account, self._tags, clock, self._options.ssh_from)
        named = self._options.subnets, self._options.security_groups
        self._network = Network(account, self._tags, *named, made=self._door.made)
        self._quotas = Quotas(account, clock)
        self._offered: set[str] = set()
        role = self._options.limit_role
        self._limits = HardLimits(account, controller, role) if role else None
        self._leftovers = Leftovers(account, self._tags, self._limits)
        self._enabled: tuple[str, ...] = ()
        self._enabled_s = 0.0

    async def offers(self, need: Need) -> Sequence[Offer]:
        """From the catalogue alone: no call is waited for."""
        offers = await asyncio.to_thread(offered, self._catalog, self._options, need)
        self._quotas.want(offers)
        self._offered |= {offer.region for offer in offers}
        return offers

    def quotas(self) -> Sequence[Quota]:
        """Of regions whose quotas were read; nothing at all may run where the account has a region switched off."""
        off = self._offered - set(self._enabled) if self._enabled else set()
        return [*self._quotas.known, *(Quota(region_pool(region), 0, switched_off(region)) for region in sorted(off))]

    async def launch(self, order: LaunchOrder) -> Machine:
        try:
            return await self._launch(order)
        except Unauthorized as error:  # what every call into a region says that is switched off
            region = order.offer.region
            if region in await self._regions():
                raise
            raise NoCapacity(switched_off(region), scope=region_pool(region), cooldown_s=3600.0) from error

    async def _launch(self, order: LaunchOrder) -> Machine:
        offer = order.offer
        named = order.image or self._options.image
        image = await self._images.of(offer, named)
        place = await self._network.of(offer, order.expires_at if self._options.passing else None)
        disk_gib = max(order.disk_gib or offer.disk_gib, image.least_gib)
        disk = {
            "VolumeSize": int(disk_gib + 0.999),
            "VolumeType": "gp3",
            "Encrypted": True,
            "DeleteOnTermination": True,
        }
        spot = offer.market is Market.SPOT
        words: dict[str, Any] = {
            "ClientToken": order.name,
            "MinCount": 1,
            "MaxCount": 1,
            "ImageId": image.id,
            "InstanceType": offer.instance_type,
            "NetworkInterfaces": [
                {
                    "DeviceIndex": 0,
                    "SubnetId": place.subnet,
                    "Groups": [place.group],
                    "DeleteOnTermination": True,
                }
            ],
            "BlockDeviceMappings": [{"DeviceName": image.root, "Ebs": disk}],
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            "UserData": self._user_data(order),
            "TagSpecifications": self._tags.specifications(order, spot=spot),
        }
        if spot:
            words["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": _spot(order.ceiling_usd_per_hour)}
        if self._options.instance_profile:
            words["IamInstanceProfile"] = {"Name": self._options.instance_profile}
        try:
            answer = await self._account.call(Calls.LAUNCH, offer.region, "run_instances", offer=offer, **words)
        except Rejected as error:
            if "IdempotentParameterMismatch" in error.message:
                return await self._launched_before(order, error)
            if not any(code in error.message for code in _OUT_OF_DATE):
                raise
            self._images.forget(offer, named)
            self._network.forget(offer.region)
            raise Unreachable(f"what was known of {offer.region} is out of date: {error.message}") from error
        return _machine(answer["Instances"][0], offer.region)

    async def machines(self) -> Sequence[Listing]:
        self._account.check()
        regions = await self._regions()
        if self._enabled:
            self._quotas.begin(self._options.regions or regions)
        return await asyncio.gather(*(self._listing(region) for region in regions))

    async def terminate(self, machine_ref: str, name: str, scope: str) -> None:
        try:
            wanted = [machine_ref] if machine_ref else [row["InstanceId"] for row in await self._called(name, scope)]
            if wanted:
                await self._account.call(Calls.DELETE, scope, "terminate_instances", InstanceIds=wanted)
        except Rejected as error:
            if "InvalidInstanceID.NotFound" not in error.message:
                raise
        except Unauthorized:
            # A machine that is gone has lost its tags, and a policy that goes by them says no to ending it again.
            if not machine_ref or await self._lives(machine_ref, scope):
                raise

    async def admit(self, scopes: Collection[str]) -> None:
        await self._door.admit(scopes, await self._regions())

    async def console(self, machine_ref: str, name: str, scope: str) -> str:
        """boto3 has decoded it."""
        if not (ref := machine_ref or await self._ref(name, scope)):
            return ""
        try:
            try:
                answer = await self._console(scope, ref, Latest=True)
            except Rejected as error:
                if _OLD_HARDWARE not in error.message:
                    raise
                answer = await self._console(scope, ref)
        except Rejected as error:
            if "InvalidInstanceID" not in error.message:
                raise
            return ""
        except Unauthorized:
            if machine_ref and machine_ref == await self._ref(name, scope):
                raise
            return ""  # a policy that goes by tags knows nothing of what is not there
        return str(answer.get("Output") or "")

    async def _console(self, region: str, ref: str, **words: Any) -> Mapping[str, Any]:
        return await self._account.call(Calls.READ, region, "get_console_output", InstanceId=ref, **words)

    async def taken_back(self, machine_ref: str, name: str, scope: str) -> bool:
        rows = await self._called(name, scope, gone=True)
        reasons = [row.get("StateReason", {}).get("Code", "") for row in rows if machine_ref in ("", row["InstanceId"])]
        return any(reason.startswith(_TAKEN) for reason in reasons)

    async def hand_over(self, machine_ref: str, name: str, scope: str) -> None:
        if not (ref := machine_ref or await self._ref(name, scope)):
            raise Unreachable(f"{name} is not there")
        tags = self._tags.handed_over(self._clock.now())
        try:
            await self._account.call(Calls.CHANGE, scope, "create_tags", Resources=[ref], Tags=tags)
        except Rejected as error:
            if "InvalidInstanceID" in error.message or "InvalidID" in error.message:
                raise Unreachable(f"{name} is not there: {error.message}") from error
            raise

    @property
    def hard_limit(self) -> bool:
        return self._limits is not None

    async def limit(self, machine_ref: str, name: str, scope: str, at: datetime) -> None:
        if self._limits is not None:
            await self._limits.make(machine_ref, name, scope, at)

    async def lift(self, name: str, scope: str) -> None:
        if self._limits is not None:
            await self._limits.remove(name, scope)

    async def leftovers(self) -> Sequence[Remains]:
        regions = await self._regions()
        return await asyncio.gather(*(self._remains(region) for region in regions))

    async def _remains(self, region: str) -> Remains:
        try:
            return await self._leftovers.there(region)
        except ProviderError as error:
            return Remains(region, error=error.message)

    async def remove(self, leftover: Leftover) -> None:
        await self._leftovers.remove(leftover)
        if leftover.kind is Kind.GROUP:
            self._network.forget(leftover.scope)

    async def _ref(self, name: str, region: str) -> str:
        rows = await self._called(name, region, gone=True)
        return str(rows[0]["InstanceId"]) if rows else ""

    async def _launched_before(self, order: LaunchOrder, error: ProviderError) -> Machine:
        """An earlier call under this name said something else in passing (another address of ours, a newer image): the
        machine that it made is the one that is meant."""
        found = await self._called(order.name, order.offer.region, gone=True)
        if not found:
            raise Unreachable(f"{order.name} was launched and does not show yet", hint=_AGAIN) from error
        row = found[0]
        if row["InstanceType"] != order.offer.instance_type:
            raise Rejected(f"{order.name} is a {row['InstanceType']} already: this is a bug", hint=_AGAIN) from error
        return _machine(row, order.offer.region)

    async def _called(self, name: str, region: str, *, gone: bool = False) -> list[Mapping[str, Any]]:
        filters = self._tags.filters(name)
        if not gone:
            filters.append({"Name": "instance-state-name", "Values": list(_STATES)})
        return await self._instances(region, filters)

    async def _lives(self, machine_ref: str, region: str) -> bool:
        filters = [{"Name": "instance-id", "Values": [machine_ref]}]
        filters.append({"Name": "instance-state-name", "Values": list(_STATES)})
        return bool(await self._instances(region, filters))

    async def _instances(self, region: str, filters: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
        reservations = await self._account.pages(region, "describe_instances", "Reservations", Filters=filters)
        return [row for reservation in reservations for row in reservation["Instances"]]

    async def _listing(self, region: str) -> Listing:
        taken_at = self._clock.now()
        filters = [*self._tags.filters(), {"Name": "instance-state-name", "Values": [*_STATES, _OVER]}]
        try:
            rows = await self._instances(region, filters)
        except ProviderError as error:
            return Listing(region, taken_at, error=error.message)
        over = {read(row.get("Tags", ()))[0] for row in rows if row["State"]["Name"] == _OVER}
        machines = tuple(_machine(row, region) for row in rows if row["State"]["Name"] != _OVER)
        return Listing(region, taken_at, machines, ended=frozenset(over - {machine.name for machine in machines}))

    async def _regions(self) -> tuple[str, ...]:
        """All that the account has enabled; those of the catalogue, each of which then says so, when it cannot tell."""
        now_s = self._clock.monotonic()
        if self._enabled and now_s - self._enabled_s < _REGIONS_KEPT_S:
            return self._enabled
        try:
            self._enabled = await self._account.enabled_regions()
        except ProviderError:
            return self._enabled or self._catalog.regions
        self._enabled_s = now_s
        return self._enabled


def offered(catalog: Catalog | Latest, options: Options, need: Need) -> list[Offer]:
    """What a catalogue has for `need` where the settings allow it."""
    allowed = options.regions
    regions = tuple(r for r in need.regions if r in allowed) if need.regions and allowed else need.regions or allowed
    if need.regions and not regions:
        return []
    disk_gib = max(need.disk_gib, options.disk_gib)
    return list(catalog.offers(replace(need, regions=regions), disk_gib=disk_gib))


def switched_off(region: str) -> str:
    return (
        f"region {region} is not enabled in this account; aws account enable-region --region-name {region}, "
        "or leave it out of aws.regions"
    )


def _spot(ceiling: Decimal | None) -> dict[str, Any]:
    """One machine, gone for good when it is taken back. Without a ceiling EC2's own is what on-demand costs."""
    words: dict[str, Any] = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
    return words | ({"MaxPrice": f"{ceiling:f}"} if ceiling else {})


def _machine(row: Mapping[str, Any], region: str) -> Machine:
    name, controller, tags = read(row.get("Tags", ()))
    launched_at: datetime = row["LaunchTime"]
    return Machine(
        ref=row["InstanceId"],
        name=name,
        controller=controller,
        scope=region,
        state=_STATES.get(row["State"]["Name"], MachineState.STOPPING),
        launched_at=launched_at.astimezone(UTC),
        tags=tags,
        address=row.get("PublicIpAddress") or row.get("PrivateIpAddress", ""),
    )
