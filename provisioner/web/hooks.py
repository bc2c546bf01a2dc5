"""Forges' webhooks: the signature over the bytes as they came is the login. One write, and an answer.

Nothing that a webhook says is acted on here, and none is believed twice: what comes of it is the engine's business, so
that a forge, which waits for ten seconds at most, is answered at once however busy that is.
"""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse

from provisioner.domain.demand import Webhooks
from provisioner.domain.errors import InvalidRequest, RunnerError, Unauthenticated
from provisioner.domain.store import Event

from .auth import Use
from .errors import TooLarge, TooSlow
from .services import Services

router = APIRouter(tags=["webhooks"])
_LARGEST = 25 * 2**20  # bytes. Source: GitHub, "Webhook events and payloads", 2026: payloads are capped at 25 MB
_TOLD_EVERY_S = 60.0
_log = structlog.get_logger()
Kind = Annotated[str, Path(pattern="^[a-z0-9][a-z0-9_]{0,39}$")]
Name = Annotated[str, Path(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


@router.post("/hooks/{kind}", status_code=202)
async def webhook(kind: Kind, request: Request, services: Use) -> JSONResponse:
    """A forge's webhook; its signature is the login."""
    return await _take(kind, "", request, services)


@router.post("/hooks/{kind}/{name}", status_code=202)
async def named_webhook(kind: Kind, name: Name, request: Request, services: Use) -> JSONResponse:
    """The same, where there are several forges of a kind."""
    return await _take(kind, name, request, services)


async def _take(kind: str, name: str, request: Request, services: Services) -> JSONResponse:
    services.kinds.of(kind)
    webhooks: Webhooks = services.webhooks
    try:
        async with services.strangers.whole(request, _LARGEST) as body:
            delivery = webhooks.read(kind, name, dict(request.headers), body)
    except (TooLarge, TooSlow):
        raise
    except Unauthenticated as error:
        await _refused(services, kind, name, error)
        raise
    except InvalidRequest as error:
        await _refused(services, kind, name, error)
        return JSONResponse({"taken": False, "why": error.message}, 202)
    if await services.demand.take(delivery):
        return JSONResponse({"taken": True}, 202)
    # No event: forges deliver some twice, and whoever kept a genuine one can, as often as they like.
    _log.info("webhook.repeated", hook=_place(kind, name), delivery=delivery.id)
    return JSONResponse({"taken": False, "why": "it was delivered before"}, 202)


async def _refused(services: Services, kind: str, name: str, error: RunnerError) -> None:
    """Anybody can make this happen, as often as they like: it is told once a minute, with how often it happened."""
    refused, now_s = services.refused, services.clock.monotonic()
    refused.count += 1
    if refused.told_s is not None and now_s - refused.told_s < _TOLD_EVERY_S:
        return
    place = _place(kind, name)
    message = f"{place}: {error.message}"
    data = {"hook": place, "times": refused.count}
    refused.count, refused.told_s = 0, now_s
    _log.warning("webhook.refused", **data, error=error.message)
    await services.store.records.record(Event("webhook.refused", services.clock.now(), message, data=data))


def _place(kind: str, name: str) -> str:
    return "/".join(filter(None, (kind, name)))
