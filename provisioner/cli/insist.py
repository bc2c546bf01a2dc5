"""Doing the same for each of several, whatever becomes of one of them: what fails is tried again, and the rest done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from .client import Client
from .failures import UNREACHABLE, CliError

_TRIES = 20
_PAUSE_S = 0.2


def insist(
    ids: Sequence[str], act: Callable[[str], Any], worth: Callable[[CliError], bool]
) -> tuple[dict[str, Any], dict[str, CliError]]:
    """What each answered, and why the others did not. `worth`: whether it is tried again after that."""
    done, failed = dict[str, Any](), dict[str, CliError]()
    left = list(ids)
    for turn in range(_TRIES):
        if turn:
            time.sleep(_PAUSE_S)
        for one in left:
            try:
                done[one] = act(one)
                failed.pop(one, None)
            except CliError as error:
                failed[one] = error
        left = [one for one in left if one in failed and worth(failed[one])]
        if not left:
            break
    return {one: done[one] for one in ids if one in done}, failed


def cancel(client: Client, job_id: str, *, now: bool = False) -> dict[str, Any]:
    """The job of exactly this id, asked to end. Raises: CliError."""
    try:
        told: dict[str, Any] = client.post(f"/jobs/{job_id}/cancel", {"now": now})
    except CliError:
        client.close()
        raise
    return told


def unanswered(error: CliError) -> bool:
    return error.code == UNREACHABLE


def all_of(failed: dict[str, CliError], what: str) -> CliError:
    """One error that says each reason once, with all whom it stopped. The worst code is its own."""
    whom: dict[str, list[str]] = {}
    for one, error in failed.items():
        whom.setdefault(error.line, []).append(one)
    said = "; ".join(f"could not {what} {', '.join(ids)}: {line}" for line, ids in whom.items())
    return CliError(said, code=max(error.code for error in failed.values()))
