"""Packed working directories, kept once per content: asked for by hash, sent once, shown when the hash is right."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from provisioner.domain.errors import InvalidRequest

from ..auth import Use, User, Viewer
from ..body import store_stream
from ..routes import KnownFirst
from ..submit import SHA256

router = APIRouter(tags=["blobs"], route_class=KnownFirst)

BLOB_LIMIT = 64 * 2**30  # bytes; arbitrary


@router.head("/blobs/{sha256}")
async def has_blob(sha256: str, services: Use, caller: Viewer) -> Response:
    """200 when it is there, 404 when not."""
    info = await services.objects.head(_key(sha256))
    return Response(status_code=404) if info is None else Response(headers={"X-Object-Size": str(info.size)})


@router.put("/blobs/{sha256}", status_code=201)
async def put_blob(sha256: str, request: Request, services: Use, caller: User) -> JSONResponse:
    """The body is the blob. Refused when it does not hash to its name."""
    size = await store_stream(request, services.objects, _key(sha256), sha256, BLOB_LIMIT)
    return JSONResponse({"sha256": sha256, "size": size}, 201)


def _key(sha256: str) -> str:
    if not SHA256.fullmatch(sha256):
        raise InvalidRequest("not a sha256 in hexadecimal")
    return f"blobs/{sha256}"
