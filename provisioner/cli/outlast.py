"""Asking a controller that may go away before it has answered, and again as often as it does: who answers in the end
may be another one, which has to be given what only a command has."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .failures import Unreachable

T = TypeVar("T")
_AWAY_S = 60.0  # arbitrary: as long as a served one is waited for
_PAUSE_S = 0.2


def outlast(
    ask: Callable[[], T], again: Callable[[], None], rights: Callable[[], None], until_s: float, away_s: float = _AWAY_S
) -> T:
    """What `ask` gives. After a lost answer `again` waits for the controller or starts one, and `rights` gives it what
    the former had; either may be cut off as well. Until `until_s` of the monotonic clock, and no longer than `away_s`
    with nobody there. Raises: Unreachable."""
    gone_s: float | None = None  # since when nobody has been there
    while True:
        try:
            if gone_s is not None:
                again()
                gone_s = None
                rights()
            return ask()
        except Unreachable:
            now_s = time.monotonic()
            gone_s = now_s if gone_s is None else gone_s
            if now_s >= until_s or now_s - gone_s >= away_s:
                raise
            time.sleep(_PAUSE_S)
