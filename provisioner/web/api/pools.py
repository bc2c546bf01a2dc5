"""Pools: what there is, what there ought to be, and why."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from provisioner.domain.demand import PoolShown
from provisioner.domain.errors import NotFound

from ..auth import Use, Viewer
from ..routes import KnownFirst
from ..services import Services
from ..shape import plain

router = APIRouter(tags=["pools"], route_class=KnownFirst)
_IN_FULL = ("jobs", "made")


@router.get("/pools")
async def list_pools(services: Use, caller: Viewer) -> JSONResponse:
    """Each with counts of its runners, and of those that ought to be there."""
    rows = [plain(one) for one in await services.demand.shown()]
    return JSONResponse([{key: value for key, value in row.items() if key not in _IN_FULL} for row in rows])


@router.get("/pools/{name}")
async def show_pool(name: str, services: Use, caller: Viewer) -> JSONResponse:
    """One pool, with the jobs that wait for it and the runners that were made for it."""
    return JSONResponse(plain(await _found(services, name)))


@router.get("/pools/{name}/why")
async def explain_pool(name: str, services: Use, caller: Viewer) -> JSONResponse:
    """Why it is as it is, in sentences."""
    found = await _found(services, name)
    return JSONResponse({"pool": found.id, "lines": list(found.why)})


async def _found(services: Services, name: str) -> PoolShown:
    for one in await services.demand.shown():
        if one.id == name:
            return one
    raise NotFound(f"no pool is called {name[:80]!r}", hint="`runner pools ls` lists them; settings.yaml makes them")
