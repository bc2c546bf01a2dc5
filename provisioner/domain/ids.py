"""Ids and computed names. An id sorts by the millisecond of its creation; a name is a pure function of an id."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

_NAME = re.compile(r"(?P<machine>runner-i-(?P<time>[0-9a-z]{9})[0-9a-z]{7})(-[0-9]+)?")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(kind: str, now: datetime, bits: Callable[[int], int]) -> str:
    """`kind-` and 16 characters: 9 of time, 7 random. `bits(n)` gives n random bits (`random.getrandbits`)."""
    value = (int(now.timestamp() * 1000) << 35) | bits(35)
    return f"{kind}-" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(75, -5, -5))


def instance_name(instance_id: str) -> str:
    """The cloud's idempotency key, tag and host name of an instance."""
    return f"runner-{instance_id}"


def made_at(name: str) -> datetime | None:
    """When the instance called `name`, or whose runner is, was made, by the clock of whoever made it."""
    if (found := _NAME.fullmatch(name)) is None or not set(found["time"]) <= set(_ALPHABET):
        return None
    value = 0
    for letter in found["time"]:
        value = value << 5 | _ALPHABET.index(letter)
    return datetime.fromtimestamp(value / 1000, UTC)


def machine_of(name: str) -> str:
    """The name of the machine whose runner is called `name`; a name that is none of ours is its own."""
    found = _NAME.fullmatch(name)
    return found["machine"] if found is not None else name
