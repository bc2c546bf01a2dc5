"""Computers that somebody already has, and the SSH keys by which machines of ours are known."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from .job import Instance
from .shell import Login


@dataclass(frozen=True, slots=True)
class Host:
    """One computer that takes machines of ours, one a slot. `gpu` is `auto` (what its driver says), `none`, or what it
    is said to have, as `A10G:4`; slots share it evenly. `usd_per_hour` is what a slot is said to cost. `folder` is
    where machines are kept there; "" the usual place."""

    name: str
    address: str
    port: int = 22
    user: str = "root"
    host_keys: tuple[str, ...] = ()
    gpu: str = "auto"
    slots: int = 1
    usd_per_hour: Decimal = Decimal(0)
    folder: str = ""

    def login(self, key: str) -> Login:
        return Login(self.address, self.port, self.user, self.host_keys, key)


@dataclass(frozen=True, slots=True)
class MachineKey:
    """The SSH host key that a machine has made for itself; "" before it has. `settled`: it answers with no other."""

    public: str = ""
    settled: bool = False

    def accepted(self, planted: str) -> tuple[str, ...]:
        """The keys that it may answer with: the planted one until its own has been seen to."""
        if self.settled:
            return (self.public,)
        return (self.public, planted) if self.public else (planted,)


class Hosts(Protocol):
    """Where they are kept.

    - K1 a machine's key, once settled, is never replaced by another: Conflict.
    - K2 a host is known, given up, or neither; whichever was said last.
    """

    async def all(self) -> list[Host]:
        """By name."""
        ...

    async def put(self, host: Host) -> None:
        """Anew, or in place of the one so named."""
        ...

    async def drop(self, name: str) -> None:
        """Raises: NotFound."""
        ...

    async def give_up(self, name: str, by: str) -> None:
        """Known or not: instances may be left of one that the settings named."""
        ...

    async def given_up(self) -> dict[str, str]:
        """By whom, by the host's name."""
        ...

    async def machine_keys(self) -> dict[str, MachineKey]:
        """By instance, of all that are reached over SSH and short of GONE."""
        ...

    async def keep_machine_key(self, instance_id: str, key: MachineKey) -> None: ...


class Hosting(Protocol):
    """Hosts that somebody already has, and logging in to machines."""

    async def public_key(self) -> str: ...
    async def login(self, instance: Instance) -> Login:
        """Raises: NotFound for a machine that this controller does not go to."""
        ...

    async def shown(self) -> list[dict[str, Any]]:
        """Each host with what it has, or why it does not answer, for showing."""
        ...

    async def add(self, host: Host) -> dict[str, Any]:
        """Once it was seen to be what it is said to be. Raises: RequestError, ProviderError."""
        ...

    async def drop(self, name: str) -> None:
        """Raises: RequestError."""
        ...

    async def give_up(self, name: str, by: str) -> list[str]:
        """Forget one that is gone for good; the instances that are closed without anybody having seen their end.
        Raises: RequestError."""
        ...
