"""An object of a store that cannot sign, as an answer: streamed, whole or the asked part of it."""

from __future__ import annotations

from starlette.responses import Response, StreamingResponse

from provisioner.domain.errors import NotFound
from provisioner.domain.ports import Objects

from .body import byte_range


async def streamed(objects: Objects, key: str, range_header: str | None) -> Response:
    """200, or 206 for a range. Raises: NotFound, ObjectsError."""
    info = await objects.head(key)
    if info is None:
        raise NotFound(f"no object {key!r}")
    part = byte_range(range_header, info.size)
    start, end = part or (0, info.size)
    headers = {"Content-Length": str(end - start), "Accept-Ranges": "bytes"}
    if part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.size}"
    body = objects.get(key, start=start, end=end)
    return StreamingResponse(body, 206 if part else 200, headers, "application/octet-stream")
