"""A machine's hard limit: a one-time schedule of EventBridge that terminates it, whoever else is gone by then.

A schedule is called like its machine, says in its description whose it is, and deletes itself once it has run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from provisioner.domain.errors import Rejected
from provisioner.domain.leftover import Kind, Leftover

from .account import Account
from .pace import Calls

_OURS = "gpu-runner controller "
_NAMES = "runner-"
_PAGE = 100  # what ListSchedules gives at most. Source: botocore's service model of `scheduler`.


class HardLimits:
    """`role` is the ARN of the role under which EventBridge terminates."""

    def __init__(self, account: Account, controller: str, role: str) -> None:
        self._account = account
        self._controller = controller
        self._role = role
        self._whose: dict[tuple[str, str], str] = {}

    async def make(self, machine_ref: str, name: str, region: str, at: datetime) -> None:
        """Raises: ProviderError. One that is there already stays as it is."""
        partition = self._role.split(":")[1]
        target = {
            "Arn": f"arn:{partition}:scheduler:::aws-sdk:ec2:terminateInstances",
            "RoleArn": self._role,
            "Input": json.dumps({"InstanceIds": [machine_ref]}),
        }
        words = {
            "Name": name,
            "ClientToken": name,
            "Description": f"{_OURS}{self._controller}",
            "ScheduleExpression": f"at({at.astimezone(UTC):%Y-%m-%dT%H:%M:%S})",
            "ScheduleExpressionTimezone": "UTC",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ActionAfterCompletion": "DELETE",
            "Target": target,
        }
        try:
            await self._call(region, "create_schedule", **words)
        except Rejected as error:
            if "ConflictException" not in error.message:
                raise

    async def remove(self, name: str, region: str) -> None:
        """Raises: ProviderError."""
        try:
            await self._call(region, "delete_schedule", Name=name)
        except Rejected as error:
            if "ResourceNotFoundException" not in error.message:
                raise
        self._whose.pop((region, name), None)

    async def there(self, region: str) -> list[Leftover]:
        """All of this controller's in the region. Raises: ProviderError."""
        rows: list[Mapping[str, Any]] = []
        more: dict[str, Any] = {}
        while True:
            page = await self._call(region, "list_schedules", NamePrefix=_NAMES, MaxResults=_PAGE, **more)
            rows += page["Schedules"]
            if not page.get("NextToken"):
                break
            more = {"NextToken": page["NextToken"]}
        whose = await asyncio.gather(*(self._owner(region, row["Name"]) for row in rows))
        return [
            Leftover(Kind.LIMIT, row["Name"], region, owner, row["Name"], row["CreationDate"].astimezone(UTC))
            for row, owner in zip(rows, whose, strict=True)
            if owner == self._controller
        ]

    async def _owner(self, region: str, name: str) -> str:
        """The controller in its description, asked once; "" for one that is gone meanwhile, or nobody's."""
        key = region, name
        if key not in self._whose:
            try:
                answer = await self._call(region, "get_schedule", Name=name)
            except Rejected as error:
                if "ResourceNotFoundException" not in error.message:
                    raise
                return ""
            self._whose[key] = str(answer.get("Description", "")).removeprefix(_OURS)
        return self._whose[key]

    async def _call(self, region: str, operation: str, **words: Any) -> Mapping[str, Any]:
        return await self._account.call(Calls.SCHEDULE, region, operation, service="scheduler", **words)
