"""Credentials handed over by a command. This router is on the control socket alone: whoever may open that is the user
whose credentials they are."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, Field, SecretStr

from provisioner.domain.credentials import Credentials, Keyring
from provisioner.domain.errors import Conflict

from ..auth import Admin, Use
from ..routes import KnownFirst
from ..services import Services
from ..shape import plain
from ..submit import read_spec

router = APIRouter(tags=["admin"], route_class=KnownFirst)


class HandedOver(BaseModel):
    """`same`: only for the account that was used before. `need` is that of the job to come, if there is one: the first
    use of an account shows what it would cost."""

    keys: dict[str, SecretStr]
    way: dict[str, SecretStr] = Field(default_factory=dict)
    expires_at: AwareDatetime | None = None
    temporary: bool = False
    same: bool = False
    need: dict[str, Any] | None = None


@router.put("/credentials/{provider}")
async def take(provider: str, body: HandedOver, services: Use, caller: Admin) -> JSONResponse:
    """Kept in memory until they expire or the controller ends; the answer says whose they are."""
    taken = await _keyring(services).take(provider, _revealed(body), same=body.same)
    policy = services.policy
    cap = {"max_usd_per_hour": str(policy.max_usd_per_hour), "max_instances": policy.max_instances}
    best = await _best(services, body.need) if taken.first and body.need is not None else ""
    return JSONResponse(plain(taken, offer=best, cap=cap))


def _keyring(services: Services) -> Keyring:
    if services.keyring is None:
        raise Conflict(
            "a served controller takes no credentials", hint="it uses those of its own environment, or its profile"
        )
    return services.keyring


def _revealed(body: HandedOver) -> Credentials:
    keys = {name: value.get_secret_value() for name, value in body.keys.items()}
    way = {name: value.get_secret_value() for name, value in body.way.items()}
    return Credentials(keys, way, body.expires_at, body.temporary)


async def _best(services: Services, need: dict[str, Any]) -> str:
    ladder = await services.desk.ladder(read_spec({"run": "true", "need": need}).need)
    return str(ladder.best or "")
