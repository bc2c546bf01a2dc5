"""Rights at forges handed over by a command. This router is on the control socket alone, like that of credentials."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, SecretStr

from provisioner.domain.errors import Conflict
from provisioner.domain.forge import ForgeCredentials, site_at

from ..auth import Admin, Use
from ..routes import KnownFirst

router = APIRouter(tags=["admin"], route_class=KnownFirst)


class Rights(BaseModel):
    """`url` is the repository, organisation or group that the token opens; `base` where its forge begins, if that is
    below its host's root; `api` where its forge's API is elsewhere."""

    url: str = Field(max_length=1000)
    base: str = Field(default="", max_length=1000)
    token: SecretStr
    api: str = Field(default="", max_length=1000)


@router.put("/forges/{kind}")
async def take_rights(kind: str, body: Rights, services: Use, caller: Admin) -> JSONResponse:
    """Kept in memory until the controller ends. The forge is asked whether they open that place."""
    if services.forge_keyring is None:
        raise Conflict("a served controller takes no forge's token", hint="name it under `forges:` of its settings")
    site = site_at(body.url, kind, body.base)
    services.kinds.of(site.kind)
    await services.forge_keyring.take(site, ForgeCredentials(token=body.token.get_secret_value(), api=body.api))
    return JSONResponse({"site": site.url, "kind": str(site.kind)})
