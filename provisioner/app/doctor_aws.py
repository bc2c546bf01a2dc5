"""`runner doctor --provider aws`: whose credentials are here, until when, and whether the machines are theirs."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from provisioner.domain.credentials import Credentials, Identity
from provisioner.domain.errors import RunnerError
from provisioner.forges.registry import known
from provisioner.settings import Settings, load

from .ask import ask
from .aws import aws_account, aws_cloud, aws_options
from .clock import SystemClock
from .home import Home

Line = tuple[bool | None, str]


def lines(home: Home) -> list[Line]:
    """The cloud's own library is imported only when it is asked for."""
    from provisioner.providers.aws.chain import resolve
    from provisioner.providers.aws.examine import examine

    try:
        settings = load(home.path, os.environ, known())
    except RunnerError:
        return []  # said already
    told: list[Line] = []
    if not settings.aws.enabled:
        told.append((None, "AWS is not enabled: `aws: {enabled: true}` in the settings lets any job use it"))
    try:
        found = resolve(settings.aws.profile)
        identity = asyncio.run(_identity(home, found))
    except RunnerError as error:
        return [*told, (False, f"AWS: {error.line}")]
    running = ask(home.control_socket, "GET", "/api/v1/status").get("credentials") or {}
    told += asyncio.run(examine(aws_account(settings, SystemClock()), aws_options(settings)))
    return [*told, _end(found), *_compared(identity, running.get("aws") or {})]


async def _identity(home: Home, found: Credentials) -> Identity:
    return await aws_cloud(Settings(), SystemClock(), "", home).identify(found)


def _end(found: Credentials) -> Line:
    if found.expires_at is not None:
        return None, f"AWS: these credentials end at {found.expires_at:%Y-%m-%d %H:%M} UTC"
    if found.temporary:
        return None, "AWS: these credentials are temporary and do not say until when"
    return True, "AWS: these credentials do not expire"


def _compared(identity: Identity, running: dict[str, Any]) -> list[Line]:
    """With the controller that runs here, if one does and has used aws."""
    told: list[Line] = []
    launched_by = Identity(**running["launched_by"]) if running.get("launched_by") else identity
    if launched_by != identity:
        told.append((False, f"AWS: the machines of this controller are of {launched_by}; use its credentials"))
    if running.get("used") and not running.get("in_use"):
        told.append((None, "AWS: the controller has no credentials that are good now; `runner gc` hands these over"))
    return told
