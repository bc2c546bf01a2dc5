"""How often EC2 may be called: a bucket of tokens for each action and region, full at the first call.

Source: Amazon EC2 developer guide, "Request throttling for the Amazon EC2 API", request and resource token limits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .fastec2_wire import Refused

_READ, _READ_ALL, _CHANGE = (100, 20), (50, 10), (50, 5)
# Those that have a smaller bucket when they name neither a filter nor a page.
_LONG = frozenset({"DescribeInstances", "DescribeSecurityGroups", "DescribeNetworkInterfaces", "DescribeVolumes"})
_ITS_OWN = {"RunInstances": (5, 2), "TerminateInstances": (100, 5), "CreateTags": (100, 10)}
_RESOURCES = {"RunInstances": (1000, 2), "TerminateInstances": (1000, 20)}


@dataclass
class _Bucket:
    size: float
    per_s: float
    tokens: float
    at_s: float

    def spill(self, count: float) -> bool:
        now_s = time.monotonic()
        self.tokens = min(self.size, self.tokens + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s
        if self.tokens < count:
            return False
        self.tokens -= count
        return True


@dataclass
class Limits:
    """`refused` counts the calls that came too early."""

    refused: int = 0
    _buckets: dict[tuple[str, str], _Bucket] = field(default_factory=dict)

    def charge(self, region: str, action: str, asked: Mapping[str, Any]) -> None:
        """Raises: Refused."""
        whole = action in _LONG and not asked.keys() & {"MaxResults", "Filters", "InstanceIds"}
        read = (_READ_ALL if whole else _READ) if action.startswith("Describe") else _CHANGE
        self._spill(f"{action} {'all' if whole else ''}", region, _ITS_OWN.get(action, read), 1)
        if action in _RESOURCES:
            count = len(asked.get("InstanceIds", ())) or asked.get("MaxCount", 1)
            self._spill(f"{action} resources", region, _RESOURCES[action], count)

    def _spill(self, name: str, region: str, limit: tuple[float, float], count: int) -> None:
        size, per_s = limit
        bucket = self._buckets.setdefault((name, region), _Bucket(size, per_s, size, time.monotonic()))
        if not bucket.spill(count):
            self.refused += 1
            raise Refused("RequestLimitExceeded", "Request limit exceeded.", 503)
