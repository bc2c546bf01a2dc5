"""What a simulated controller would log: nothing of it is written, and each error that nobody meant is told of.

The engine goes on after most of its own faults, and says so by an error in the log: what it was about is tried again,
so that an episode may come to rest although the fault took place every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from .hooked import CrashNow

_ERRORS = frozenset({"error", "exception", "critical"})


@contextmanager
def overheard(tell: Callable[[str, BaseException | None], None]) -> Iterator[None]:
    """`tell` is given what is wrong, and the exception where there is one."""

    def listen(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        error = event.get("exc_info")
        cause = error if isinstance(error, BaseException) else None
        if method in _ERRORS and not isinstance(cause, CrashNow):  # a controller that is killed fails everywhere
            about = (str(event[key]) for key in ("errand", "instance", "provider", "error") if key in event)
            tell(f"{event['event']}: {', '.join(about)}", cause)
        raise structlog.DropEvent

    configured = structlog.get_config()
    structlog.configure(processors=[listen])
    try:
        yield
    finally:
        structlog.configure(**configured)
