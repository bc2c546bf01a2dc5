"""Routes of people, by who may send them a body and what is believed of it before it is looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Message

from provisioner.domain import strict_json
from provisioner.domain.errors import InvalidRequest

_SMALL = 64 * 2**10  # bytes; arbitrary
Handler = Callable[[Request], Awaitable[Response]]


class Strict(APIRoute):
    """The body is decoded by `strict_json`."""

    def get_route_handler(self) -> Any:
        return _strictly(super().get_route_handler())


class KnownFirst(Strict):
    """And only for who may be known: without a right token nothing of it is read."""

    def get_route_handler(self) -> Any:
        handle = super().get_route_handler()

        async def known(request: Request) -> Response:
            request.state.caller = await request.app.state.login(request)
            return await handle(request)  # type: ignore[no-any-return]

        return known


class Bounded(Strict):
    """And anybody may send one: a small one, in time, and no more of them at once than is borne."""

    def get_route_handler(self) -> Any:
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            async with request.app.state.services.strangers.whole(request, _SMALL) as body:

                async def receive() -> Message:
                    return {"type": "http.request", "body": body, "more_body": False}

                return await handle(Request(request.scope, receive))  # type: ignore[no-any-return]

        return bounded


class _StrictRequest(Request):
    """`refused` is why its body was not taken, whatever the framework makes of that."""

    refused: InvalidRequest | None = None

    async def json(self) -> Any:
        try:
            return strict_json.loads(await self.body())
        except strict_json.NotJson as error:
            self.refused = InvalidRequest(f"body: {error}", hint="see /docs")
            raise HTTPException(400) from error


def _strictly(handle: Handler) -> Handler:
    async def strictly(request: Request) -> Response:
        strict = _StrictRequest(request.scope, request.receive)
        try:
            return await handle(strict)
        except HTTPException:
            if strict.refused is not None:
                raise strict.refused from None
            raise

    return strictly
