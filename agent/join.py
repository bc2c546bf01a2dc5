"""Becoming this machine for the controller: one token, one nonce, one session for ever.

The nonce is on the disk before it is first sent, so that a lost answer, or a kill at any moment, leads to the same
session when asked again, and nobody else who got hold of the token can have it.
"""

from __future__ import annotations

import os
import secrets
from typing import Any

from . import wire, workload
from .config import Home, flush_folder
from .files import read_json, write_json
from .link import Link

_FILE = "session.json"


def joined(home: Home) -> str:
    """The session of an earlier join; "" when there was none."""
    return str((read_json(home.file(_FILE)) or {}).get("session", ""))


def join(home: Home, config: wire.AgentConfig, link: Link, machine: dict[str, Any]) -> str:
    """The session. Raises: Unreachable, Refused."""
    nonce = _nonce(home)
    ask = wire.Join(config.instance, config.join_token, nonce, boot_id=workload.boot_id(), machine=machine)
    answer = link.call("/agent/v1/join", ask, wire.Joined)
    write_json(home.file(_FILE), {"session": answer.session}, durable=True)
    flush_folder(home.path)
    return answer.session


def _nonce(home: Home) -> str:
    path = home.file("nonce.json")
    kept = read_json(path)
    if kept is None:
        kept = {"nonce": secrets.token_hex(32)}
        write_json(path, kept, durable=True)
        flush_folder(os.path.dirname(path))
    return str(kept["nonce"])
