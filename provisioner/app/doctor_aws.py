"""`runner doctor --provider aws`: whose credentials are here, until when, and whether the machines are theirs."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from provisioner.domain.credentials import Credentials, Identity
from provisioner.domain.errors import RunnerError
from provisioner.providers.aws.chain import resolve
from provisioner.settings import load

from .ask import ask
from .aws import aws_cloud
from .clock import SystemClock
from .home import Home

Line = tuple[bool | None, str]


def lines(home: Home) -> list[Line]:
    try:
        settings = load(home.path, os.environ)
        found = resolve(settings.aws.profile)
        identity = asyncio.run(_identity(found))
    except RunnerError as error:
        return [(False, f"aws: {error.message}; {error.hint}" if error.hint else f"aws: {error.message}")]
    region = found.way.get("region", "")
    told = [(True, f"aws: {identity}" + (f", region {region}" if region else "")), _end(found)]
    running = ask(home.control_socket, "GET", "/api/v1/status").get("credentials") or {}
    return [*told, *_compared(identity, running.get("aws") or {})]


async def _identity(found: Credentials) -> Identity:
    from provisioner.settings import Settings

    return await aws_cloud(Settings(), SystemClock(), "").identify(found)


def _end(found: Credentials) -> Line:
    if found.expires_at is not None:
        return None, f"aws: these credentials end at {found.expires_at:%Y-%m-%d %H:%M} UTC"
    if found.temporary:
        return None, "aws: these credentials are temporary and do not say until when"
    return True, "aws: these credentials do not expire"


def _compared(identity: Identity, running: dict[str, Any]) -> list[Line]:
    """With the controller that runs here, if one does and has used aws."""
    told: list[Line] = []
    launched_by = Identity(**running["launched_by"]) if running.get("launched_by") else identity
    if launched_by != identity:
        told.append((False, f"aws: the machines of this controller are of {launched_by}; use its credentials"))
    if running.get("used") and not running.get("in_use"):
        told.append((None, "aws: the controller has no credentials that are good now; `runner gc` hands these over"))
    return told
