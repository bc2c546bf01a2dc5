"""The three sites that listeners carry: people by file permission, people by token (and agents), agents alone."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from provisioner import __version__

from . import hooks, metrics
from .agent_api import PROTOCOL, agent_routes
from .api import (
    admin,
    blobs,
    credentials,
    forges,
    ghosts,
    hand_over,
    hosts,
    instances,
    jobs,
    logs,
    oidc,
    pools,
    published,
    results,
)
from .auth import Login, Use, Viewer, control_login, token_login
from .body import BodyLimit
from .docs import page, schema
from .errors import handlers, said
from .health import Health
from .services import Services

_PREFIX = "/api/v1"
_ROUTERS = (jobs, logs, results, instances, hosts, pools, admin, ghosts, blobs, published)


def control_site(services: Services) -> FastAPI:
    """The people's API for whoever may open the control socket, and what goes through no other door."""
    site = _people(services, control_login)
    for one in (credentials, forges, hand_over):
        site.include_router(one.router, prefix=_PREFIX)
    return site


def people_site(services: Services) -> FastAPI:
    """The same with tokens, the agents' routes and forges' webhooks beside it: what a TCP port carries."""
    site = _people(services, token_login)
    site.include_router(oidc.router, prefix=_PREFIX)
    site.include_router(hooks.router)
    site.router.routes[:0] = agent_routes(services)
    site.include_router(published.open_router)
    return site


def agents_site(services: Services) -> Starlette:
    """The agents' routes and nothing else."""
    site = Starlette(routes=agent_routes(services), exception_handlers=handlers())
    site.state.ending = services.ending
    return site


def _people(services: Services, login: Login) -> FastAPI:
    site = FastAPI(
        title="gpu-runner",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        exception_handlers=handlers() | {RequestValidationError: _on_invalid},
        middleware=[Middleware(BodyLimit, free=(f"{_PREFIX}/blobs/", f"{_PREFIX}/published/", "/agent/", "/hooks/"))],
    )
    site.state.services, site.state.login, site.state.ending = services, login, services.ending
    site.state.protocol = PROTOCOL
    for one in _ROUTERS:
        site.include_router(one.router, prefix=_PREFIX)
    _add_operations(site, Health(services, __version__))
    return site


def _add_operations(site: FastAPI, health: Health) -> None:
    @site.get("/healthz", tags=["operations"])
    async def healthz() -> JSONResponse:
        """Whether the engine's passes succeed; needs no token. 503 when the last good one is over 60 s old."""
        status, body = await health.look()
        return JSONResponse(body, status)

    @site.get("/metrics", tags=["operations"])
    async def prometheus(services: Use, caller: Viewer) -> Response:
        return Response(await metrics.exposition(services, health), media_type=metrics.CONTENT_TYPE)

    @site.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(schema(site))

    @site.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(schema(site)))


async def _on_invalid(request: Request, error: Exception) -> Response:
    """Pydantic's findings in our own shape: the first one, naming its field."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    return said(400, "InvalidRequest", f"{where}: {first['msg']}", "see /docs")
