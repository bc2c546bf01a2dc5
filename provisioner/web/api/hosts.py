"""Hosts that somebody already has, and the way to a machine's shell."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.hosts import Host

from ..auth import Admin, Use, Viewer
from ..routes import KnownFirst

router = APIRouter(tags=["hosts"], route_class=KnownFirst)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class NewHost(BaseModel):
    """`host_keys` as OpenSSH writes them; `gpu` is auto, none or NAME[:COUNT]; `usd_per_hour` of one slot."""

    address: str = Field(min_length=1, max_length=255)
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    user: str = Field(default="root", min_length=1, max_length=64)
    host_keys: list[str] = Field(min_length=1, max_length=8)
    gpu: str = "auto"
    slots: Annotated[int, Field(ge=1, le=64)] = 1
    usd_per_hour: Decimal = Field(default=Decimal(0), ge=0)
    folder: str = ""


@router.get("/hosts")
async def list_hosts(services: Use, caller: Viewer) -> JSONResponse:
    """Each with what it has, or why it did not answer just now."""
    return JSONResponse(await services.hosting.shown())


@router.get("/hosts-key")
async def show_key(services: Use, caller: Admin) -> JSONResponse:
    """The public key that hosts let this controller in by."""
    return JSONResponse({"public_key": await services.hosting.public_key()})


@router.put("/hosts/{name}")
async def add_host(name: str, body: NewHost, services: Use, caller: Admin) -> JSONResponse:
    """Log in, look at it, and use it from now on."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"not a name of a host: {name[:80]!r}", hint="letters, digits, dots and dashes")
    keys = tuple(" ".join(key.split()[:2]) for key in body.host_keys)
    host = Host(name=name, **(body.model_dump() | {"host_keys": keys}))
    return JSONResponse(await services.hosting.add(host), 201)


@router.delete("/hosts/{name}")
async def drop_host(name: str, services: Use, caller: Admin, force: bool = False) -> JSONResponse:
    """Forget it. Its machines have to be gone first, unless `force` says that it is gone for good or was wiped."""
    unconfirmed: list[str] = []
    if force:
        unconfirmed = await services.hosting.give_up(name, caller.owner)
    else:
        await services.hosting.drop(name)
    return JSONResponse({"removed": name, "unconfirmed": unconfirmed})


@router.post("/instances/{id}/ssh")
async def log_in(id: str, services: Use, caller: Admin) -> JSONResponse:
    """All that it takes to log in to a machine that is reached over SSH, this controller's own key included."""
    instance = await services.store.instances.get(id)
    login = await services.hosting.login(instance)
    told = {"host": login.host, "port": login.port, "user": login.user, "host_keys": list(login.host_keys)}
    return JSONResponse({**told, "key": login.key})
