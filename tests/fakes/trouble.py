"""What a fake cloud does wrong because a test told it to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass
class Trouble:
    """The next `times` calls of `action`, after the first `skip`. `lose`: done, and the answer never sent. `code`:
    refused with it and `status`, nothing done."""

    action: str
    code: str = ""
    lose: bool = False
    times: int = 1
    skip: int = 0
    status: int = 400
    message: str = "as it was told to"


def due(troubles: Iterable[Trouble], action: str) -> Trouble | None:
    """The trouble that this call of `action` is in, which is thereby one call nearer to its end."""
    for one in troubles:
        if one.action == action and one.skip > 0:
            one.skip -= 1
        elif one.action == action and one.times > 0:
            one.times -= 1
            return one
    return None
