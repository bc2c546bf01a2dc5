"""The tags by which we know our own: on everything that a machine consists of, from the call that makes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from provisioner.domain.handing import TAG
from provisioner.domain.offer import LaunchOrder

PREFIX = "gpu-runner:"
_CONTROLLER, _NAME = f"{PREFIX}controller", f"{PREFIX}name"
# Whatever one call to RunInstances makes.
_MADE = ("instance", "volume", "network-interface")


@dataclass(frozen=True, slots=True)
class Tags:
    """Of one controller. With `any_controller` everything of ours is found, whoever launched it."""

    controller: str
    any_controller: bool = False

    @property
    def own(self) -> dict[str, str]:
        return {_CONTROLLER: self.controller}

    def of_group(self, expires_at: datetime | None) -> list[dict[str, str]]:
        """Of a security group, which may be removed at a time if that is known."""
        ends = {f"{PREFIX}expires-at": expires_at.astimezone(UTC).isoformat()} if expires_at else {}
        return as_list(self.own | ends)

    def handed_over(self, now: datetime) -> list[dict[str, str]]:
        return as_list({f"{PREFIX}{TAG}": now.astimezone(UTC).isoformat()})

    @property
    def group_name(self) -> str:
        return f"gpu-runner-{self.controller}"

    def filters(self, name: str = "") -> list[dict[str, Any]]:
        """For a listing: all of ours, or the one called `name`."""
        if name:
            return [{"Name": f"tag:{_NAME}", "Values": [name]}]
        if self.any_controller:
            return [{"Name": "tag-key", "Values": [_CONTROLLER]}]
        return [{"Name": f"tag:{_CONTROLLER}", "Values": [self.controller]}]

    def specifications(self, order: LaunchOrder, *, spot: bool) -> list[dict[str, Any]]:
        """For the call that launches it."""
        expires_at = order.expires_at.astimezone(UTC).isoformat()
        ours = {"owner": order.owner, "expires-at": expires_at, **order.tags}
        tags = {"Name": order.name, _NAME: order.name, _CONTROLLER: order.controller}
        tags |= {f"{PREFIX}{key}": value for key, value in ours.items()}
        kinds = (*_MADE, "spot-instances-request") if spot else _MADE
        return [{"ResourceType": kind, "Tags": as_list(tags)} for kind in kinds]


def as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def read(tags: Iterable[Mapping[str, str]]) -> tuple[str, str, dict[str, str]]:
    """Name, controller and our other tags, by their names without the prefix."""
    ours = {tag["Key"].removeprefix(PREFIX): tag["Value"] for tag in tags if tag["Key"].startswith(PREFIX)}
    return ours.pop("name", ""), ours.pop("controller", ""), ours
