"""Ghosts at forges: runners' records without a machine, named in one call and removed in a later one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from provisioner.domain.forge import site_at

from ..auth import Admin, Use

router = APIRouter(tags=["admin"])


class Look(BaseModel):
    """`seen` are names that an earlier look has found; none is removed that is not among them."""

    url: str = Field(max_length=1000)
    forge: str = Field(max_length=40)
    base: str = Field(default="", max_length=1000)
    older_than_s: Annotated[float, Field(ge=0)]
    seen: list[str] | None = Field(default=None, max_length=100_000)
    remove: bool = False


@router.post("/gc/runners")
async def collect_runners(body: Look, services: Use, caller: Admin) -> JSONResponse:
    """Name records of runners at a forge that have no machine; with `remove`, those of `seen` that are so still go."""
    site = site_at(body.url, body.forge, body.base)
    services.kinds.of(site.kind)
    if body.remove:
        told = await services.ghosts.remove(site, body.older_than_s, body.seen or ())
    else:
        told = await services.ghosts.look(site, body.older_than_s, body.seen)
    return JSONResponse({"found": told.found, "ended": told.removed, "refused": dict(told.refused)})
