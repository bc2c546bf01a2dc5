"""What EC2 still has of machines that are gone: volumes and network interfaces that nothing uses, spot requests without
a machine, and the security group of a controller without any in a region.

Everything is listed before the machines are, so that what a machine made in between brought along is not taken for left
behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from provisioner.domain.errors import Rejected, Unreachable
from provisioner.domain.leftover import Kind, Leftover, Remains

from .account import Account
from .limits import HardLimits
from .pace import Calls
from .tags import Tags, read

_STATES = ("pending", "running", "shutting-down", "stopping", "stopped")
_IN_USE = "currently in use"  # how EC2 says it of a network interface, as InvalidParameterValue
_PAGE = 500  # what each of these calls takes
_FREE = {"Name": "status", "Values": ["available"]}
_OPEN = {"Name": "state", "Values": ["open", "active"]}
# How each kind is removed: operation, the name of its argument, whether that is a list, and what EC2 says of none.
_REMOVED: Mapping[Kind, tuple[str, str, bool, str]] = {
    Kind.VOLUME: ("delete_volume", "VolumeId", False, "InvalidVolume.NotFound"),
    Kind.INTERFACE: ("delete_network_interface", "NetworkInterfaceId", False, "InvalidNetworkInterfaceID.NotFound"),
    Kind.SPOT_REQUEST: (
        "cancel_spot_instance_requests",
        "SpotInstanceRequestIds",
        True,
        "InvalidSpotInstanceRequestID.NotFound",
    ),
    Kind.GROUP: ("delete_security_group", "GroupId", False, "InvalidGroup.NotFound"),
}


class Leftovers:
    """Of one controller, or, as `tags` say, of all. `limits` where machines have hard limits."""

    def __init__(self, account: Account, tags: Tags, limits: HardLimits | None) -> None:
        self._account = account
        self._tags = tags
        self._limits = limits

    async def there(self, region: str) -> Remains:
        """Raises: ProviderError."""
        found = [_volume(row, region) for row in await self._rows(region, "describe_volumes", "Volumes", _FREE)]
        found += [
            _leftover(Kind.INTERFACE, row["NetworkInterfaceId"], region, row.get("TagSet", ()))
            for row in await self._rows(region, "describe_network_interfaces", "NetworkInterfaces", _FREE)
        ]
        requests = await self._rows(region, "describe_spot_instance_requests", "SpotInstanceRequests", _OPEN)
        groups = await self._rows(region, "describe_security_groups", "SecurityGroups")
        limits = await self._limits.there(region) if self._limits else []
        live = await self._live(region)
        found += [_request(row, region) for row in requests if row.get("InstanceId") not in live]
        known = [_leftover(Kind.GROUP, row["GroupId"], region, row.get("Tags", ())) for row in groups]
        using = {controller for _, controller in live.values()}
        found += [group for group in known if group.controller not in using]
        names = {name for name, _ in live.values()}
        found += [one for one in limits if one.name not in names]
        return Remains(region, tuple(found))

    async def remove(self, one: Leftover) -> None:
        """Raises: ProviderError; Unreachable for what is still in use."""
        if one.kind is Kind.LIMIT:
            if self._limits is not None:
                await self._limits.remove(one.ref, one.scope)
            return
        operation, word, many, none = _REMOVED[one.kind]
        words: dict[str, Any] = {word: [one.ref] if many else one.ref}
        try:
            await self._account.call(Calls.DELETE, one.scope, operation, **words)
        except Rejected as error:
            if _IN_USE in error.message:
                raise Unreachable(error.message) from error
            if none not in error.message:
                raise

    async def _rows(self, region: str, operation: str, part: str, *more: dict[str, Any]) -> list[Mapping[str, Any]]:
        filters = [*self._tags.filters(), *more]
        return await self._account.pages(region, operation, part, size=_PAGE, Filters=filters)

    async def _live(self, region: str) -> dict[str, tuple[str, str]]:
        """Names and controllers of the machines that are there, by their ids."""
        states = {"Name": "instance-state-name", "Values": list(_STATES)}
        reservations = await self._rows(region, "describe_instances", "Reservations", states)
        rows = [row for reservation in reservations for row in reservation["Instances"]]
        return {row["InstanceId"]: read(row.get("Tags", ()))[:2] for row in rows}


def _volume(row: Mapping[str, Any], region: str) -> Leftover:
    return _leftover(Kind.VOLUME, row["VolumeId"], region, row.get("Tags", ()), row["CreateTime"])


def _request(row: Mapping[str, Any], region: str) -> Leftover:
    return _leftover(Kind.SPOT_REQUEST, row["SpotInstanceRequestId"], region, row.get("Tags", ()), row["CreateTime"])


def _leftover(kind: Kind, ref: str, region: str, tags: Any, made_at: datetime | None = None) -> Leftover:
    name, controller, ours = read(tags)
    return Leftover(kind, ref, region, controller, name, made_at.astimezone(UTC) if made_at else None, ours)
