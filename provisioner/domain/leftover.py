"""What machines leave behind: a cloud's own word for each thing that is ours and that no machine has any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    VOLUME = "volume"
    INTERFACE = "network-interface"
    SPOT_REQUEST = "spot-request"
    GROUP = "security-group"
    LIMIT = "hard-limit"


@dataclass(frozen=True, slots=True)
class Leftover:
    """One of them. `name` is that of the machine it was made for, "" where it is for all of a scope; `made_at` is None
    where the cloud does not say."""

    kind: Kind
    ref: str
    scope: str
    controller: str
    name: str = ""
    made_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """`volume/vol-0a1b`: what it is called in lists and events."""
        return f"{self.kind}/{self.ref}"


@dataclass(frozen=True, slots=True)
class Remains:
    """One scope's answer: a complete list, or the error that kept it from being one. Never a short list."""

    scope: str
    found: tuple[Leftover, ...] = ()
    error: str | None = None

    @property
    def complete(self) -> bool:
        return self.error is None
