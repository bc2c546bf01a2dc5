"""The Hosting port in memory, for the web's tests: hosts called `dead...` do not answer."""

from __future__ import annotations

from typing import Any

from provisioner.domain.errors import NotFound, Unreachable
from provisioner.domain.hosts import Host
from provisioner.domain.job import Instance
from provisioner.domain.shell import Login


class FakeHosting:
    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self.given_up: dict[str, str] = {}

    async def public_key(self) -> str:
        return "ssh-ed25519 AAAA"

    async def login(self, instance: Instance) -> Login:
        return Login("10.0.0.7", 22, "root", ("ssh-ed25519 BBBB",), "a private key")

    async def shown(self) -> list[dict[str, Any]]:
        return [{"id": name} for name in sorted(self.hosts)]

    async def add(self, host: Host) -> dict[str, Any]:
        if host.address.startswith("dead"):
            raise Unreachable(f"host {host.name}: nobody answers")
        self.hosts[host.name] = host
        return {"id": host.name}

    async def give_up(self, name: str, by: str) -> list[str]:
        self.given_up[name] = by
        self.hosts.pop(name, None)
        return ["i-1"]

    async def drop(self, name: str) -> None:
        if name not in self.hosts:
            raise NotFound(f"no host is called {name!r}")
        del self.hosts[name]
