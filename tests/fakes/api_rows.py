"""What a fake API tells of machines and logs."""

from __future__ import annotations

from typing import Any

STAMP = "2026-11-21T00:00:00+00:00"
OFFER = {"provider": "local", "zone": "here", "instance_type": "this", "usd_per_hour": "0"}


def instance_row(phase: str) -> dict[str, Any]:
    money = {"cost_usd": "0.25", "terminate_calls": int(phase != "ready"), "idle_timeout_s": None}
    row = {"id": "i-1", "phase": phase, "offer": OFFER, "busy": "", "created_at": STAMP, "reason": None}
    return {**row, **money, "heard_s": 0.1}


def spans(output: list[tuple[int, bytes]], offset: int) -> list[tuple[int, int, bytes]]:
    """(stream, offset, bytes) from `offset` on."""
    found, at = [], 0
    for stream, data in output:
        if at + len(data) > offset:
            skip = max(0, offset - at)
            found.append((stream, at + skip, data[skip:]))
        at += len(data)
    return found
