"""A CI job's own token for a session of ours: the one route of people that needs no token of ours."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from provisioner.domain.errors import Forbidden, RequestError
from provisioner.domain.store import Event

from ..auth import Use
from ..routes import Bounded
from ..services import Services

router = APIRouter(tags=["jobs"], route_class=Bounded)
_MINUTE_S = 60.0
_LONGEST = 16384  # characters; arbitrary: a forge's tokens have about two thousand


class Exchange(BaseModel):
    token: str = Field(max_length=_LONGEST)


@router.post("/oidc", status_code=201)
async def exchange(body: Exchange, services: Use) -> JSONResponse:
    """For an hour, and for what this run makes alone. A refusal is recorded, and says why in one line."""
    if services.ci is None:
        raise Forbidden("this controller lets no CI run in", hint="`ci:` of its settings says which may come")
    now = services.clock.now()
    try:
        session, text = await services.ci.exchange(body.token)
    except RequestError as error:
        if _recorded(services):
            await services.store.records.record(Event("ci.refused", now, error.line))
        raise
    said = {"run": session.run, "ref": session.ref, "owner": session.owner}
    await services.store.records.record(Event("ci.admitted", now, session.run, data=said))
    return JSONResponse({"token": text, "expires_at": session.expires_at.isoformat(), **said}, 201)


def _recorded(services: Services) -> bool:
    """Anybody may knock, but not fill the database by it."""
    latest, now_s = services.traffic.refused, services.clock.monotonic()
    if len(latest) == latest.maxlen and now_s - latest[0] < _MINUTE_S:
        return False
    latest.append(now_s)
    return True
