"""How a process that runs for long collects its garbage."""

from __future__ import annotations

import gc


def settle() -> None:
    """What start-up made stays for good: a collection that walks it all would hold up every agent's sync."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
