"""Objects in a cloud's store through obstore: one adapter for S3, GCS and Azure, imported when it is first used.

Bytes travel straight between obstore and the caller. Signing single requests is obstore's too; what only S3 has
(multipart by URL, POST policies) is added by `s3.S3Objects`.
"""

from __future__ import annotations

import contextlib
import mimetypes
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from provisioner.domain.errors import ObjectsError
from provisioner.domain.ports import Multipart, ObjectInfo, Objects, SignedRequest

from .keys import checked, checked_folder

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

SCHEMES = ("s3", "gs", "az")
LONGEST_S = 7 * 86400.0  # Source: Amazon S3 user guide, SigV4 query parameters, X-Amz-Expires.
_PART = 16 * 2**20  # bytes of one part of a put, and of one block of a get; arbitrary
_AT_ONCE = 4
_READ = 2**20
_SHOWN = "published/"
_METADATA = "169.254.169.254"  # where SDKs look for credentials when they have found none elsewhere
_SAYS_NO = re.compile(r"status code: 40[13]\b|PermissionDenied|Unauthenticated")
_RETRIES: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}  # arbitrary: agents and commands try again

OpenForeign = Callable[[str], tuple[Objects, str]]


class ObstoreObjects:
    """`url` is `scheme://bucket/prefix`; credentials and endpoint come from the environment, as the SDKs name them."""

    signs = True

    def __init__(self, url: str, *, foreign: OpenForeign) -> None:
        self._url = url.rstrip("/")
        self._foreign = foreign
        self._opened: S3Store | GCSStore | AzureStore | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._url}>"

    @property
    def url(self) -> str:
        return self._url

    async def put(self, key: str, data: AsyncIterator[bytes] | bytes | Path) -> int:
        import obstore

        counted = _Counted(data)
        with self._mapped(key):
            try:
                await obstore.put_async(
                    self._store(),
                    checked(key),
                    counted.source,
                    attributes=_attributes(key),
                    chunk_size=_PART,
                    max_concurrency=_AT_ONCE,
                )
            except Exception:
                if counted.failed is not None:
                    raise counted.failed from None
                raise
        return counted.size

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Bytes `start` to `end` (exclusive); less when the object is shorter."""
        import obstore

        checked(key)
        if start or end is not None:
            found = await self.head(key)
            if found is None:
                raise ObjectsError(f"no object {key!r}", missing=True)
            end = found.size if end is None else min(end, found.size)
            if start >= end:
                return
        with self._mapped(key):
            options = None if end is None else {"range": (start, end)}
            answer = await obstore.get_async(self._store(), key, options=cast(Any, options))
            async for block in answer.stream(min_chunk_size=_READ):
                yield bytes(block)

    async def head(self, key: str) -> ObjectInfo | None:
        import obstore

        try:
            with self._mapped(key):
                meta = await obstore.head_async(self._store(), checked(key))
        except ObjectsError as error:
            if error.missing:
                return None
            raise
        return _info(meta, key)

    async def under(self, prefix: str) -> list[ObjectInfo]:
        """Every object in the folder `prefix` and below, by key."""
        import obstore

        folder = checked_folder(prefix)
        found: list[ObjectInfo] = []
        with self._mapped(prefix):
            async for batch in obstore.list(self._store(), prefix=folder or None, chunk_size=1000):
                found.extend(_info(meta, meta["path"]) for meta in batch)
        return sorted(found, key=lambda info: info.key)

    async def delete(self, keys: Sequence[str]) -> None:
        import obstore

        wanted = [checked(key) for key in keys]
        for first in range(0, len(wanted), 1000):
            with self._mapped(wanted[first]), contextlib.suppress(FileNotFoundError):
                await obstore.delete_async(self._store(), wanted[first : first + 1000])

    async def sign(self, keys: Sequence[str], method: str, expires_s: float) -> list[SignedRequest]:
        import obstore

        if method not in ("GET", "PUT"):
            raise ObjectsError(f"cannot sign {method}")
        if not keys:
            return []
        verb, span = cast(Literal["GET", "PUT"], method), timedelta(seconds=min(expires_s, LONGEST_S))
        with self._mapped(keys[0]):
            urls = await obstore.sign_async(self._store(), verb, [checked(key) for key in keys], span)
        headers = {"x-ms-blob-type": "BlockBlob"} if method == "PUT" and self._scheme == "az" else {}
        return [SignedRequest(url, method, headers) for url in urls]

    async def multipart(self, key: str, size: int, expires_s: float) -> Multipart:
        """One part, to be sent with a plain PUT and completed by nobody: `upload_id` is empty."""
        (signed,) = await self.sign([key], "PUT", expires_s)
        return Multipart("", max(1, size), (signed.url,))

    async def complete(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        raise ObjectsError(f"{self._scheme}:// has no multipart uploads here")

    async def post_policy(self, prefix: str, expires_s: float, max_bytes: int) -> Mapping[str, Any] | None:
        return None

    async def foreign(self, source: str) -> tuple[Objects, str]:
        return self._foreign(source)

    @property
    def _scheme(self) -> str:
        return urlsplit(self._url).scheme

    def _store(self) -> S3Store | GCSStore | AzureStore:
        if self._opened is None:
            self._opened = _open(self._url)
        return self._opened

    @contextlib.contextmanager
    def _mapped(self, key: str) -> Iterator[None]:
        """obstore's errors as ours; the caller's own exceptions pass."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            raise ObjectsError(f"no object {key!r} in {self._url}", missing=True) from error
        except (BaseError, OSError) as error:
            if _METADATA in str(error):
                raise ObjectsError(f"the controller has no credentials for {self._url}", denied=True) from error
            if _SAYS_NO.search(str(error)):
                raise ObjectsError(f"{self._url} says no: {_first_line(error)}", denied=True) from error
            raise ObjectsError(
                f"{self._url}: {_first_line(error)}", hint="check its address and credentials"
            ) from error


class _Counted:
    """What is put, its size, and the caller's own failure while it was read, which obstore would wrap."""

    def __init__(self, data: AsyncIterator[bytes] | bytes | Path) -> None:
        self.size = 0
        self.failed: Exception | None = None
        if isinstance(data, Path):
            self.size = os.stat(data).st_size if data.exists() else 0
            self.source: Any = data
        elif isinstance(data, bytes | bytearray | memoryview):
            self.size = len(data)
            self.source = bytes(data)
        else:
            self.source = self._read(data)

    async def _read(self, data: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in data:
                self.size += len(chunk)
                yield chunk
        except Exception as error:
            self.failed = error
            raise


def _open(url: str) -> S3Store | GCSStore | AzureStore:
    from obstore.store import AzureStore, GCSStore, S3Store

    options: Any = {"allow_http": True, "timeout": "600s", "connect_timeout": "10s"}
    try:
        match urlsplit(url).scheme:
            case "s3":
                region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
                return S3Store.from_url(url, region=region, client_options=options, retry_config=_RETRIES)
            case "gs":
                return GCSStore.from_url(url, client_options=options, retry_config=_RETRIES)
            case _:
                return AzureStore.from_url(url, client_options=options, retry_config=_RETRIES)
    except Exception as error:
        raise ObjectsError(f"cannot open {url}: {_first_line(error)}") from error


def _attributes(key: str) -> Any:
    """What others are shown straight from the store has to say what it is: forges' proxies take images only."""
    kind = mimetypes.guess_type(key, strict=False)[0] if key.startswith(_SHOWN) else None
    return {"Content-Type": kind} if kind else None


def _info(meta: Mapping[str, Any], key: str) -> ObjectInfo:
    return ObjectInfo(key, meta["size"], (meta.get("e_tag") or "").strip('"'))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
