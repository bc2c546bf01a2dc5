"""Images for others to see: put here by commands, shown by forges to whoever reads a report, with no login of ours.

Where the object store signs, the address is the store's own, for as long as it signs at most; else it is this
controller's `public_url` with a key that only it can make. Days are part of the names, for retention to go by.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import timedelta

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from provisioner.domain.errors import Conflict, InvalidRequest, NotFound

from ..auth import Doer, Use
from ..body import store_stream
from ..routes import KnownFirst
from ..services import Services
from ..submit import SHA256

router = APIRouter(tags=["published"], route_class=KnownFirst)
open_router = APIRouter(include_in_schema=False)

SHOWN = "/published"
LIMIT = 16 * 2**20  # bytes; arbitrary
_SIGNED_FOR_S = 7 * 86400.0  # Source: Amazon S3 user guide, SigV4 query parameters, X-Amz-Expires
_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "svg": "image/svg+xml",
}
# An SVG is a document: it may draw, and nothing else.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "public, max-age=86400",
}


@router.put("/published/{sha256}/{name}", status_code=201)
async def publish(sha256: str, name: str, request: Request, services: Use, caller: Doer) -> JSONResponse:
    """The body is the image. Answers with the address under which anybody sees it, and until when."""
    if not SHA256.fullmatch(sha256):
        raise InvalidRequest("not a sha256 in hexadecimal")
    if name.rpartition(".")[2].lower() not in _TYPES:
        raise InvalidRequest(f"{name[:80]!r} is no image", hint=f"its name ends in one of {', '.join(_TYPES)}")
    if not services.objects.signs and not services.public_url:
        raise Conflict(
            "nobody could open it: this controller's object store signs no links, and it has no public_url",
            hint="set objects_url or public_url in its settings",
        )
    day, kept = services.clock.now().date().isoformat(), re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-80:]
    key = f"published/{day}/{sha256}/{kept}"
    if caller.session is not None:
        services.shown.count(caller.session.run, key)
    await store_stream(request, services.objects, key, sha256, LIMIT)
    return JSONResponse(await _address(services, key), 201)


async def _address(services: Services, key: str) -> dict[str, str | None]:
    if services.objects.signs:
        (signed,) = await services.objects.sign([key], "GET", _SIGNED_FOR_S)
        expires_at = services.clock.now() + timedelta(seconds=_SIGNED_FOR_S)
        return {"url": signed.url, "expires_at": expires_at.isoformat()}
    path = key.removeprefix("published/")
    return {"url": f"{services.public_url}{SHOWN}/{path}?key={_key(services, path)}", "expires_at": None}


@open_router.get(SHOWN + "/{day}/{sha256}/{name}")
async def show(day: str, sha256: str, name: str, services: Use, key: str = "") -> Response:
    """To whoever has the address."""
    path = f"{day}/{sha256}/{name}"
    kind = _TYPES.get(name.rpartition(".")[2].lower())
    genuine = hmac.compare_digest(key.encode(), _key(services, path).encode())
    if not genuine or kind is None or await services.objects.head(f"published/{path}") is None:
        raise NotFound("no such image")
    data = b"".join([block async for block in services.objects.get(f"published/{path}")])
    return Response(data, headers=_HEADERS, media_type=kind)


def _key(services: Services, path: str) -> str:
    return hmac.new(services.session_key, f"published {path}".encode(), hashlib.sha256).hexdigest()[:32]
