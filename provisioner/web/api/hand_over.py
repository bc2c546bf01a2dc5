"""Handing machines over to themselves. This router is on the control socket alone, like that of credentials."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from provisioner.domain.errors import Conflict

from ..auth import Admin, Use
from ..shape import plain

router = APIRouter(tags=["admin"])


@router.post("/jobs/{id}/hand-over")
async def hand_over(id: str, services: Use, caller: Admin) -> JSONResponse:
    """Leave a CI runner's machine to itself; asked for until its `state` is `alone`. Of a CI step's own controller."""
    if services.hand_overs is None:
        raise Conflict("only a CI step's own controller hands machines over", hint="this one looks after its own")
    return JSONResponse(plain(await services.hand_overs.ask(id)))
