"""What opens an account at a cloud, as a command hands it over: held in memory, shown to nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


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


class Keys(Protocol):
    """What opens one provider's account now, for its adapter.

    - K1 nothing of it is written anywhere, or in any message or representation.
    - K2 what is over its time is never given.
    """

    def current(self) -> Credentials:
        """Raises: Unauthorized, saying what to do, while there is nothing to give."""
        ...

    def expired(self, credentials: Credentials) -> None:
        """The cloud said so: they are not given again."""
        ...


class Keyring(Protocol):
    """What commands hand over, for as long as the controller lives. Bound by K1 and K2."""

    async def take(self, provider: str, credentials: Credentials, *, same: bool = False) -> Taken:
        """Whose they are is asked of the cloud. `same`: only if they open the account that was used before. Raises:
        RequestError, having kept nothing."""
        ...

    def too_short(self, provider: str, lifetime_s: float) -> tuple[str, str] | None:
        """What to say, and what to do, if all that is held of a provider ends before a machine's life would."""
        ...
