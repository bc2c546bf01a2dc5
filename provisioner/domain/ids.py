"""Ids and computed names. An id sorts by the millisecond of its creation; a name is a pure function of an id."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(kind: str, now: datetime, bits: Callable[[int], int]) -> str:
    """`kind-` and 16 characters: 9 of time, 7 random. `bits(n)` gives n random bits (`random.getrandbits`)."""
    value = (int(now.timestamp() * 1000) << 35) | bits(35)
    return f"{kind}-" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(75, -5, -5))


def instance_name(instance_id: str) -> str:
    """The cloud's idempotency key, tag and host name of an instance."""
    return f"runner-{instance_id}"
