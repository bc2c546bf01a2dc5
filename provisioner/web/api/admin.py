"""Tokens, secrets, collecting, status, and ending the controller."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from provisioner.domain.errors import Forbidden, NotFound
from provisioner.domain.ids import new_id
from provisioner.domain.job import JobPhase
from provisioner.domain.store import TokenRow

from ..auth import Admin, Looker, Use, User, Viewer, checked_name, hashed, new_token
from ..routes import KnownFirst
from ..shape import dollars, plain_all
from ..submit import check_secret

router = APIRouter(tags=["admin"], route_class=KnownFirst)

_OPEN = (JobPhase.QUEUED, JobPhase.RUNNING, JobPhase.HELD)


class NewToken(BaseModel):
    name: str
    role: Literal["viewer", "user", "admin"]
    expires_s: Annotated[float, Field(gt=0, le=10 * 366 * 86400)] | None = None


class SecretValue(BaseModel):
    value: str


class Collect(BaseModel):
    dry_run: bool = False
    expired: bool = False


class Shutdown(BaseModel):
    reason: str = Field(default="", max_length=500)


@router.get("/tokens")
async def list_tokens(services: Use, caller: Admin) -> JSONResponse:
    return JSONResponse(plain_all(await services.store.records.tokens()))


@router.post("/tokens", status_code=201)
async def make_token(body: NewToken, services: Use, caller: Admin) -> JSONResponse:
    """The token itself is in this answer and nowhere else."""
    now, token = services.clock.now(), new_token()
    expires_at = None if body.expires_s is None else now + timedelta(seconds=body.expires_s)
    row = TokenRow(new_id("token", now, services.bits), checked_name(body.name), body.role, now, expires_at)
    await services.store.records.add_token(row, hashed(token))
    return JSONResponse({"id": row.id, "token": token}, 201)


@router.delete("/tokens/{id}")
async def drop_token(id: str, services: Use, caller: Admin) -> JSONResponse:
    if id not in {row.id for row in await services.store.records.tokens()}:
        raise NotFound(f"no token {id[:80]!r}", hint="`runner token ls` lists them")
    await services.store.records.drop_token(id)
    return JSONResponse({})


@router.get("/secrets")
async def list_secrets(services: Use, caller: Viewer) -> JSONResponse:
    """Names and fingerprints of the caller's own; values are never shown."""
    rows = await services.store.records.secret_names(caller.owner)
    return JSONResponse([{"name": n, "fingerprint": f, "set_at": at.isoformat()} for n, f, at in rows])


@router.put("/secrets/{name}")
async def put_secret(name: str, body: SecretValue, services: Use, caller: User) -> JSONResponse:
    check_secret(name, body.value)
    await services.store.records.put_secret(caller.owner, name, body.value)
    return JSONResponse({})


@router.delete("/secrets/{name}")
async def drop_secret(name: str, services: Use, caller: User) -> JSONResponse:
    if name not in {row[0] for row in await services.store.records.secret_names(caller.owner)}:
        raise NotFound(f"no secret {name[:80]!r}", hint="`runner secret ls` lists them")
    await services.store.records.drop_secret(caller.owner, name)
    return JSONResponse({})


@router.post("/gc")
async def collect(body: Collect, services: Use, caller: Admin) -> JSONResponse:
    """End machines that nothing accounts for; with `dry_run`, only name them."""
    return JSONResponse(await services.gc(body.dry_run, body.expired))


@router.get("/status")
async def status(request: Request, services: Use, caller: Looker) -> JSONResponse:
    """What this controller is and has; a CI run is told which version it is, and no more."""
    if caller.session is not None:
        return JSONResponse({"version": services.status().get("version"), "protocol": request.app.state.protocol})
    instances = await services.store.instances.find()
    spend = sum((instance.offer.usd_per_hour or Decimal(0) for instance in instances), Decimal(0))
    counted = {
        "protocol": request.app.state.protocol,
        "live_instances": len(instances),
        "open_jobs": len(await services.store.jobs.find(phases=_OPEN, limit=100_000)),
        "spend_usd_per_hour": dollars(spend),
    }
    return JSONResponse(services.status() | counted)


@router.post("/shutdown")
async def shutdown(body: Shutdown, services: Use, caller: Admin) -> JSONResponse:
    """Finish the calls in flight and exit; jobs and machines go on. Only through the control socket."""
    if not caller.local:
        raise Forbidden("a controller is shut down through its own socket only", hint="on its machine, as its user")
    services.shutdown(body.reason or "asked to")
    return JSONResponse({})
