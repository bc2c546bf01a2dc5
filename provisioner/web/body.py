"""Request bodies, bounded: whole ones up to a limit, streams checked against the hash that they claim."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provisioner.domain.errors import InvalidRequest, NotFound, ObjectsError
from provisioner.domain.ports import Objects

from .errors import Crowded, TooLarge, TooSlow, answer

JSON_LIMIT = 4 * 2**20  # bytes; arbitrary
STRANGERS_LIMIT = 64 * 2**20  # bytes; arbitrary: two of the largest webhooks, or thousands of usual ones
STRANGERS_PATIENCE_S = 10.0  # Source: GitHub, "Handling webhook deliveries", 2026: it waits ten seconds for an answer
_LEAST_HELD = 16 * 2**10  # bytes, what a connection costs before anything has come; arbitrary
OBJECT_LIMIT = 5 * 2**40  # bytes. Source: Amazon S3 user guide, largest object.


async def whole(request: Request, limit: int) -> bytes:
    """Raises: TooLarge."""
    _check_declared(request.headers.get("content-length"), limit)
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        parts.append(chunk)
    return parts[0] if len(parts) == 2 and not parts[1] else b"".join(parts)


class Strangers:
    """Bodies of callers whose right to send them shows only in what they send: bounded all together, and in time."""

    def __init__(self, most_bytes: int = STRANGERS_LIMIT, patience_s: float = STRANGERS_PATIENCE_S) -> None:
        self.most_bytes, self.patience_s, self._held = most_bytes, patience_s, 0

    @contextlib.asynccontextmanager
    async def whole(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """The body, which counts for as long as it is looked at. Raises: TooLarge, Crowded, TooSlow."""
        _check_declared(request.headers.get("content-length"), limit)
        held = _Held(self)
        try:
            yield await held.read(request, limit, self.patience_s)
        finally:
            self._held -= held.size

    def take(self, size: int) -> int:
        """`size`, which there is room for. Raises: Crowded."""
        if self._held + size > self.most_bytes:
            raise Crowded("too much is being sent at the moment", hint="send it again later")
        self._held += size
        return size


class _Held:
    """One of those bodies, and how much it counts for."""

    def __init__(self, among: Strangers) -> None:
        self._among, self.size = among, 0

    async def read(self, request: Request, limit: int, patience_s: float) -> bytes:
        self.size += self._among.take(_LEAST_HELD)
        parts, size = [], 0
        try:
            async with asyncio.timeout(patience_s):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > limit:
                        raise _too_large(limit)
                    self.size += self._among.take(max(0, size - self.size))
                    parts.append(chunk)
        except TimeoutError as error:
            raise TooSlow(f"the body did not come within {patience_s:g} s", hint="send it again") from error
        return b"".join(parts)


async def store_stream(
    request: Request, objects: Objects, key: str, sha256: str = "", limit: int = OBJECT_LIMIT
) -> int:
    """Put the body under `key`; with `sha256` only if it hashes to that. Nothing shows unless all of it came.

    Raises: InvalidRequest, TooLarge, ObjectsError.
    """
    _check_declared(request.headers.get("content-length"), limit)
    checked = _Checked(request, sha256, limit)
    try:
        return await objects.put(key, checked.chunks())
    except ObjectsError:
        if checked.refused is not None:
            raise checked.refused from None
        raise


class _Checked:
    """The body's chunks. What was wrong with them is kept, in case the store wraps it."""

    def __init__(self, request: Request, sha256: str, limit: int) -> None:
        self._request, self._sha256, self._limit = request, sha256, limit
        self.refused: InvalidRequest | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        digest, size = hashlib.sha256(), 0
        try:
            async for chunk in self._request.stream():
                size += len(chunk)
                if size > self._limit:
                    raise _too_large(self._limit)
                if self._sha256:
                    digest.update(chunk)
                yield chunk
        except ClientDisconnect as error:
            self.refused = InvalidRequest("the sender went away; nothing was stored", hint="send it again")
            raise self.refused from error
        except TooLarge as error:
            self.refused = error
            raise
        if self._sha256 and digest.hexdigest() != self._sha256:
            self.refused = InvalidRequest(
                f"the body's sha256 is {digest.hexdigest()}, not {self._sha256}; nothing was stored",
                hint="send it again",
            )
            raise self.refused


class BodyLimit:
    """ASGI middleware: refuses a declared or actual body over `limit`, except below the path `free`."""

    def __init__(self, app: ASGIApp, limit: int = JSON_LIMIT, free: tuple[str, ...] = ()) -> None:
        self._app, self._limit, self._free = app, limit, free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._free):
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0").decode("latin-1")
        try:
            _check_declared(declared, self._limit)
        except InvalidRequest as error:
            await answer(error)(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit:
                raise _too_large(self._limit)
            return message

        await self._app(scope, counted, send)


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, end exclusive) of a single `Range`, None for the whole. Raises: NotFound when it lies outside."""
    if not header or not header.startswith("bytes=") or "," in header:
        return None
    first, _, last = header.removeprefix("bytes=").strip().partition("-")
    if not (first or last).isdecimal() or (last and not last.isdecimal()) or len(first) > 18 or len(last) > 18:
        return None
    if not first:
        return max(0, size - int(last)), size
    start, end = int(first), min(size, int(last) + 1) if last else size
    if start >= size and size:
        raise NotFound(f"range {header!r} is outside of {size} bytes")
    return (start, end) if start < end else None


def _check_declared(declared: str | None, limit: int) -> None:
    if declared and (not declared.isdecimal() or int(declared[:20]) > limit):
        raise _too_large(limit)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is over its limit of {limit} bytes", hint="send less; nothing was stored")
