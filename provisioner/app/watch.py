"""Every long-lived loop runs under a watcher: a crash is recorded, backed off and the loop restarted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

_log = structlog.get_logger()
_FIRST_S, _LONGEST_S, _FORGET_S = 0.1, 30.0, 60.0


async def watched(
    name: str, loop: Callable[[], Awaitable[None]], crashed: Callable[[str], None] = lambda _: None
) -> None:
    """Run `loop` until it returns; only cancellation from outside ends it otherwise. `crashed` hears of each crash."""
    clock = asyncio.get_running_loop()
    pause_s = _FIRST_S
    while True:
        began = clock.time()
        try:
            await loop()
            return
        except Exception as error:
            if clock.time() - began > _FORGET_S:
                pause_s = _FIRST_S
            crashed(f"{name}: {error}")
            _log.error("loop.crashed", loop=name, error=repr(error), again_in_s=pause_s, exc_info=True)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_S)
