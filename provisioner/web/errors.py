"""Our errors as HTTP answers: one table, and one shape for people and agents alike."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from provisioner.domain import errors

STATUS: Mapping[type[errors.RunnerError], int] = {
    errors.InvalidRequest: 400,
    errors.Unauthenticated: 401,
    errors.OverBudget: 402,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.StaleWrite: 409,
    errors.Impossible: 422,
    errors.ObjectsError: 503,
    errors.StoreError: 503,
    errors.ForgeRefused: 422,
    errors.ForgeUnauthorized: 422,
    errors.RunnerBusy: 409,
    errors.ForgeError: 503,
    errors.ProviderError: 503,
    errors.RunnerError: 500,
}
_KINDS = {401: "Unauthenticated", 403: "Forbidden", 404: "NotFound", 405: "InvalidRequest"}
_RETRY_AFTER_S = "10"  # by when each body that is coming has come, or was given up


class TooLarge(errors.InvalidRequest):
    """The body is over its limit: the rest of it was not read."""


class Crowded(errors.RunnerError):
    """Not now: there is no room for what is sent."""


class TooSlow(errors.InvalidRequest):
    """The rest of the body was not waited for."""


def answer(error: errors.RunnerError) -> JSONResponse:
    """The status and body that say `error`."""
    if isinstance(error, TooLarge):
        return said(413, "InvalidRequest", error.message, error.hint)
    if isinstance(error, TooSlow | Crowded):
        return _unread(error)
    kind = next(kind for kind in type(error).__mro__ if kind in STATUS)
    name = "Conflict" if kind is errors.StaleWrite else type(error).__name__
    return said(STATUS[kind], name, error.message, error.hint)


def said(status: int, kind: str, message: str, hint: str = "") -> JSONResponse:
    return JSONResponse({"error": {"kind": kind, "message": message, "hint": hint}}, status)


def _unread(error: errors.RunnerError) -> JSONResponse:
    """What is still coming is not taken."""
    status, kind = (503, "RunnerError") if isinstance(error, Crowded) else (408, "InvalidRequest")
    response = said(status, kind, error.message, error.hint)
    response.headers["connection"] = "close"
    if isinstance(error, Crowded):
        response.headers["retry-after"] = _RETRY_AFTER_S
    return response


async def on_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.RunnerError)
    return answer(error)


async def on_routing(request: Request, error: Exception) -> Response:
    """Unknown routes and methods, in the same shape."""
    assert isinstance(error, HTTPException)
    kind = _KINDS.get(error.status_code, "InvalidRequest")
    return said(error.status_code, kind, f"{request.method} {request.url.path}: {error.detail}")


async def on_os(request: Request, error: Exception) -> Response:
    """A full disk is worth its own words; anything else of the kind is a bug like others."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return said(503, "StoreError", "no space left on the controller's disk", "free some; nothing was stored")
    raise error


async def on_gone(request: Request, error: Exception) -> Response:
    """Nobody is there to read this."""
    return Response(status_code=400)


async def on_bug(request: Request, error: Exception) -> Response:
    return said(500, "RunnerError", "the controller failed on this request", "its log says where")


def handlers() -> dict[Any, Any]:
    """What both sites install."""
    return {
        errors.RunnerError: on_ours,
        HTTPException: on_routing,
        ClientDisconnect: on_gone,
        OSError: on_os,
        Exception: on_bug,
    }
