"""The first words with a rented machine over SSH: its own key for the one that was planted, and its agent.

Done over every new connection, in an order that may break off anywhere: what is done already is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent import wire
from provisioner.domain.errors import ScriptFailed
from provisioner.domain.hosts import MachineKey
from provisioner.domain.shell import Session

from .bundle import packed
from .userdata import STATE

SOCKET = f"{STATE}/controller.sock"
_TAKE_S = 120.0


async def introduce(
    session: Session, known: MachineKey, note: Callable[[MachineKey], Awaitable[None]], state: str = STATE
) -> None:
    """`note` keeps what is known from now on. Raises: ScriptFailed, NoAnswer."""
    public = known.public
    if session.host_key != public:
        public = (await _told(session, state))["host_key"]
        await note(MachineKey(public))
        await _run(session, "settle", state)
    if not known.settled:
        await note(MachineKey(public, settled=True))
    if not (await _told(session, state))["has_agent"]:
        await _run(session, "take", state, packed())


async def _told(session: Session, state: str) -> dict[str, Any]:
    out = await _run(session, "meet", state)
    try:
        told: dict[str, Any] = json.loads(out)
        return {"host_key": told["host_key"], "has_agent": told["has_agent"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ScriptFailed(f"the machine answered what nobody understands: {out[:200]!r}") from error


async def _run(session: Session, command: str, state: str, data: bytes = b"") -> bytes:
    program = Path(wire.__file__).with_name("meet.py").read_text()
    done = await session.run(["python3", "-I", "-c", program, command, state], data, timeout_s=_TAKE_S)
    if done.code:
        raise ScriptFailed(f"{command} failed on the machine: {done.complaint}")
    return done.out
