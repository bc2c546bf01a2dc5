"""The instances of one region, as many as memory holds: made once for a client token, found by filters, page by page.

An instance is pending, then running, then on its way out, then terminated, by the clock alone. It is kept as the parts
that never change and, for as long as its state is the same, as the XML that a listing is made of.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .fastec2_wire import Ready, Refused, ready
from .iam import ACCOUNT

_STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48}
_KEPT_S = 3600.0  # source: EC2 user guide, "Terminate Amazon EC2 instances": visible for about an hour
_PAGE = range(5, 1001)  # source: the model's documentation of DescribeInstances, MaxResults


@dataclass
class Machine:
    """`fixed` is what of it never changes, by the model's names; the times are `time.monotonic()`."""

    id: str
    fixed: dict[str, Any]
    tags: dict[str, str]
    user_data: str
    launched_s: float
    boot_s: float
    ending_s: float
    ended_s: float | None = None
    _written: tuple[str, Ready] = ("", Ready("", ""))

    @property
    def state(self) -> str:
        now_s = time.monotonic()
        if self.ended_s is not None:
            return "terminated" if now_s >= self.ended_s + self.ending_s else "shutting-down"
        return "running" if now_s >= self.launched_s + self.boot_s else "pending"

    @property
    def forgotten(self) -> bool:
        return self.ended_s is not None and time.monotonic() > self.ended_s + self.ending_s + _KEPT_S

    def row(self) -> dict[str, Any]:
        """Of the shape Instance."""
        tags = [{"Key": key, "Value": value} for key, value in self.tags.items()]
        return {**self.fixed, "State": _state(self.state), "Tags": tags}

    def written(self) -> Ready:
        """The reservation that it is alone in."""
        state = self.state
        if self._written[0] != state:
            self._written = state, ready("Reservation", self.reservation())
        return self._written[1]

    def reservation(self) -> dict[str, Any]:
        return {"ReservationId": f"r-{self.id[2:]}", "OwnerId": ACCOUNT, "Instances": [self.row()]}

    def end(self) -> dict[str, Any]:
        """Of the shape InstanceStateChange."""
        before = self.state
        if self.ended_s is None:
            self.ended_s = time.monotonic()
        return {"InstanceId": self.id, "PreviousState": _state(before), "CurrentState": _state(self.state)}

    def tagged(self, tags: Mapping[str, str]) -> None:
        self.tags |= tags
        self._written = "", self._written[1]


def _state(name: str) -> dict[str, Any]:
    return {"Code": _STATES[name], "Name": name}


# Filters by name: what of a machine they look at. `tag:KEY` is besides.
_FILTERS: dict[str, Callable[[Machine], Sequence[str]]] = {
    "client-token": lambda one: [one.fixed["ClientToken"]],
    "instance-id": lambda one: [one.id],
    "instance-lifecycle": lambda one: [one.fixed.get("InstanceLifecycle", "")],
    "instance-state-name": lambda one: [one.state],
    "instance-type": lambda one: [one.fixed["InstanceType"]],
    "subnet-id": lambda one: [one.fixed["SubnetId"]],
    "tag-key": lambda one: list(one.tags),
}


@dataclass
class Machines:
    """`late_s`: for how long after its launch a machine does not show in listings."""

    boot_s: float = 0.0
    ending_s: float = 0.0
    late_s: float = 0.0
    by_id: dict[str, Machine] = field(default_factory=dict)
    _tokens: dict[str, tuple[dict[str, Any], Machine]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def launch(self, asked: dict[str, Any], fixed: dict[str, Any], tags: dict[str, str]) -> Machine:
        """`asked` is the whole request, by which a client token is known again. Raises: Refused."""
        token = asked.get("ClientToken", "")
        if token and token in self._tokens:
            before, machine = self._tokens[token]
            if before != asked:
                raise Refused("IdempotentParameterMismatch", f"The client token {token} came with another request")
            return machine
        id = f"i-{next(self._numbers):017x}"
        fixed = {"InstanceId": id, "LaunchTime": datetime.now(UTC), "ClientToken": token, **fixed}
        machine = Machine(id, fixed, tags, asked.get("UserData", ""), time.monotonic(), self.boot_s, self.ending_s)
        self.by_id[id] = machine
        if token:
            self._tokens[token] = asked, machine
        return machine

    def called(self, ids: Sequence[str]) -> list[Machine]:
        """Raises: Refused."""
        if unknown := [id for id in ids if id not in self.by_id or self.by_id[id].forgotten]:
            raise Refused("InvalidInstanceID.NotFound", f"The instance ID '{unknown[0]}' does not exist")
        return [self.by_id[id] for id in ids]

    def page(self, asked: Mapping[str, Any]) -> tuple[list[Machine], str]:
        """What DescribeInstances asks for, and the token of the next page or "". Raises: Refused."""
        size, after = asked.get("MaxResults"), asked.get("NextToken", "")
        if size is not None and ("InstanceIds" in asked or size not in _PAGE):
            raise Refused("InvalidParameterCombination", "MaxResults goes with no InstanceIds, and is 5 to 1000")
        rows = self.called(asked["InstanceIds"]) if "InstanceIds" in asked else list(self.by_id.values())
        tests = [_test(one["Name"], one.get("Values", [])) for one in asked.get("Filters", ())]
        begin, found = _position(after), []
        newest_s = time.monotonic() - self.late_s
        for at in range(begin, len(rows)):
            one = rows[at]
            if one.launched_s <= newest_s and not one.forgotten and all(test(one) for test in tests):
                found.append(one)
            if size is not None and len(found) == size and at + 1 < len(rows):
                return found, f"at-{at + 1}"
        return found, ""


def _position(token: str) -> int:
    if not token:
        return 0
    if not re.fullmatch(r"at-\d+", token):
        raise Refused("InvalidParameterValue", f"Value ({token}) for parameter NextToken is invalid.")
    return int(token[3:])


def _test(name: str, values: Sequence[str]) -> Callable[[Machine], bool]:
    """Values may have the wildcards `*` and `?`. Source: EC2 user guide, "Filter resources"."""
    exact = frozenset(values)
    patterns = [
        re.compile(re.escape(value).replace(r"\*", ".*").replace(r"\?", "."))
        for value in values
        if "*" in value or "?" in value
    ]

    def fits(value: str | None) -> bool:
        return value is not None and (value in exact or any(one.fullmatch(value) for one in patterns))

    if name.startswith("tag:"):
        key = name[4:]
        return lambda one: fits(one.tags.get(key))
    if name not in _FILTERS:
        raise Refused("InvalidParameterValue", f"The filter '{name}' is invalid")
    look = _FILTERS[name]
    return lambda one: any(fits(value) for value in look(one))
