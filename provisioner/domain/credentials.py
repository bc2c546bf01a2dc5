"""What opens an account at a cloud, as a command hands it over: held in memory, shown to nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a cloud says that somebody is. `name` is the same in every session of theirs."""

    account: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} (account {self.account})"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """`keys` are the secret; `way` is how their holder reaches the cloud (region, endpoints, certificates, proxies).
    `expires_at` None: never or, where they are `temporary`, nobody can tell."""

    keys: Mapping[str, str]
    way: Mapping[str, str] = field(default_factory=dict)
    expires_at: datetime | None = None
    temporary: bool = False

    def __repr__(self) -> str:
        """Nothing of what is inside: a representation ends up in logs."""
        return f"Credentials(expires_at={self.expires_at})"


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of handing credentials over. `first`: this controller has not used that account before. `notes` are
    sentences for whoever handed them over."""

    identity: Identity
    expires_at: datetime | None
    first: bool = False
    notes: tuple[str, ...] = ()
