"""Port 22 of our own security groups: open to this controller's own address while it has machines to go to there.

Whoever launches the first machine of a region asks for the door before there is a group that it could be in. So the
network says when it has made one, and the door opens in it at once, beside the launch and not in its way. Groups that
the settings name are somebody else's and are left as they are.
"""

from __future__ import annotations

import asyncio
import ipaddress
import urllib.request
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import structlog

from provisioner.domain.errors import ProviderError, Unreachable
from provisioner.domain.ports import Clock

from .account import Account
from .pace import Calls
from .tags import Tags

_log = structlog.get_logger()
_PORT = 22
_PAUSES_S = (0.0, 1.0, 3.0, 9.0)  # arbitrary: EC2 takes seconds to know everywhere what it has just made
_ADDRESS = "https://checkip.amazonaws.com"  # says who asks. Source: EC2 user guide, security group rules for SSH.
_ADDRESS_S = 10.0
_DONE_ALREADY = ("InvalidPermission.Duplicate", "InvalidPermission.NotFound")


class Door:
    """`source` is the CIDR to let in; "" asks AWS which address this controller has."""

    def __init__(
        self, account: Account, tags: Tags, clock: Clock, source: str = "", ask: Callable[[], str] | None = None
    ) -> None:
        self._account = account
        self._clock = clock
        self._tags = tags
        self._source = source
        self._ask = ask or _own_address
        self._open_in: set[str] | None = None
        self._wanted: frozenset[str] = frozenset()
        self._let_in = ""
        self._new: dict[str, set[str]] = {}
        self._opening: set[asyncio.Task[None]] = set()

    def made(self, region: str, group: str) -> None:
        """A group that has just been made, and that EC2 may not show yet. Waits for nothing."""
        if region in self._wanted and self._let_in:
            task = asyncio.create_task(self._open(region, group, self._let_in), name=f"door of {group}")
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self._new.setdefault(region, set()).add(group)

    async def _open(self, region: str, group: str, source: str) -> None:
        """What fails for longer is done at the next look at the region."""
        for pause_s in _PAUSES_S:
            await self._clock.sleep(pause_s)
            try:
                await self._allow(region, {"GroupId": group}, source)
                return
            except ProviderError as error:
                _log.warning("door.not_opened", group=group, error=error.message)

    async def admit(self, wanted: Collection[str], everywhere: Collection[str]) -> None:
        """Open in the regions `wanted`, closed in all others of `everywhere`. Raises: ProviderError."""
        self._wanted = frozenset(wanted)
        await asyncio.gather(*self._opening)
        source = self._let_in = await self._cidr() if wanted else ""
        look = set(everywhere) if self._open_in is None else self._open_in
        done = [self._see_to(region, source if region in wanted else "") for region in sorted(look | set(wanted))]
        answers = await asyncio.gather(*done, return_exceptions=True)
        if trouble := next((one for one in answers if isinstance(one, BaseException)), None):
            raise trouble
        self._open_in = set(wanted)

    async def _cidr(self) -> str:
        if self._source:
            return str(ipaddress.ip_network(self._source))
        try:
            return f"{ipaddress.ip_address((await asyncio.to_thread(self._ask)).strip())}/32"
        except (OSError, ValueError) as error:
            raise Unreachable(
                f"cannot tell which address this controller has: {error}", hint="name it in the settings: aws.ssh_from"
            ) from error

    async def _see_to(self, region: str, source: str) -> None:
        groups = await self._account.pages(
            region, "describe_security_groups", "SecurityGroups", Filters=self._tags.filters()
        )
        unseen = self._new.pop(region, set()) - {group["GroupId"] for group in groups}
        for group in (*groups, *({"GroupId": one} for one in sorted(unseen))):
            there = _sources(group)
            for cidr in sorted(there - {source}):
                words = _rule(group, cidr)
                await _done(self._account.call(Calls.CHANGE, region, "revoke_security_group_ingress", **words))
            if source and source not in there:
                await self._allow(region, group, source)

    async def _allow(self, region: str, group: Mapping[str, Any], source: str) -> None:
        words = _rule(group, source)
        await _done(self._account.call(Calls.CHANGE, region, "authorize_security_group_ingress", **words))


def _rule(group: Mapping[str, Any], cidr: str) -> dict[str, Any]:
    rule = {"IpProtocol": "tcp", "FromPort": _PORT, "ToPort": _PORT, "IpRanges": [{"CidrIp": cidr}]}
    return {"GroupId": group["GroupId"], "IpPermissions": [rule]}


async def _done(change: Awaitable[object]) -> None:
    try:
        await change
    except ProviderError as error:
        if not any(code in error.message for code in _DONE_ALREADY):
            raise


def _sources(group: Mapping[str, Any]) -> set[str]:
    rules = [rule for rule in group.get("IpPermissions", ()) if rule.get("FromPort") == _PORT]
    return {one["CidrIp"] for rule in rules for one in rule.get("IpRanges", ())}


def _own_address() -> str:
    with urllib.request.urlopen(_ADDRESS, timeout=_ADDRESS_S) as answer:
        return str(answer.read(100).decode("ascii", "replace"))
