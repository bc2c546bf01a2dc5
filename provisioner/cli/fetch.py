"""One file of a result into a part that grows beside its place: from the controller, or straight from the object store.

A part is hashed as it grows, on a thread of its own when it is large, and is resumed where it broke.
"""

from __future__ import annotations

import hashlib
import http.client
import queue
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .client import Client, refusal
from .embedded import again
from .failures import CliError, Unreachable

_CHUNK = 2**20
_TRIES = 5
_TIMEOUT_S = 300.0
_LARGE = 16 * 2**20  # bytes from which hashing beside the transfer is worth a thread; arbitrary
_AHEAD = 16  # chunks that wait to be hashed


class Fetcher:
    """One thread's way in, with a kept connection to each object store. `stop` ends what is under way; `came` is told
    how many bytes arrived."""

    def __init__(
        self, client: Client, prefix: str, stop: threading.Event, came: Callable[[int], None] = lambda _: None
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._stop = stop
        self._came = came
        self._stores: dict[str, http.client.HTTPConnection] = {}
        self._proxied: dict[str, bool] = {}

    def whole(self, one: dict[str, Any], part: Path, link: str = "") -> None:
        """Make `part` exactly the recorded bytes. `link` is tried first. Raises: CliError after several tries in a row
        that brought nothing, OSError."""
        lost = 0
        while lost < _TRIES and not self._stop.is_set():
            had = _size(part)
            try:
                if self._fetch(one, part, link) == one["sha256"]:
                    return
                part.unlink()
            except Unreachable:
                if not link:
                    again(self._client)
            link = ""
            lost = 0 if _size(part) > had else lost + 1
        raise CliError(f"{one['path']} does not arrive as it was recorded", "pull again; what verified is kept", 1)

    def _fetch(self, one: dict[str, Any], part: Path, link: str) -> str:
        """Append what is missing; the hash of all. Raises: Unreachable when the transfer breaks, CliError when it is
        refused."""
        have, size = _size(part), one["size"]
        if have == size and size:
            return file_sha256(part)
        wanted = {"Range": f"bytes={have}-"} if 0 < have < size else {}
        response = self._stored(link, wanted) if link else self._asked(one["path"], wanted)
        hashing = _Hashing(size)
        try:
            with part.open("ab" if response.status == 206 else "wb") as file:
                if response.status == 206:
                    _read_into(hashing, part)
                while not self._stop.is_set() and (data := self._some(response)):
                    hashing.add(data)
                    file.write(data)
                    self._came(len(data))
        finally:
            found = hashing.end()
        if _size(part) < size:
            self.close()
            raise Unreachable("the transfer broke")
        return found

    def _asked(self, path: str, wanted: dict[str, str]) -> http.client.HTTPResponse:
        """From the controller, or from where it points to."""
        whole_path = f"{self._prefix}/files/{urllib.parse.quote(path)}"
        response = self._client.open("GET", whole_path, None, wanted, timeout_s=_TIMEOUT_S)
        if response.status in (302, 303, 307, 308):
            location = response.headers["Location"]
            response.read()
            return self._stored(location, wanted)
        if response.status >= 400:
            raise refusal(response)
        return response

    def _stored(self, url: str, wanted: dict[str, str]) -> http.client.HTTPResponse:
        """Straight from the object store, without credentials of ours. Raises: Unreachable."""
        try:
            place = "/".join(url.split("/", 3)[:3])
            if place not in self._proxied:
                self._proxied[place] = _has_proxy(place)
            response = _by_proxy(url, wanted) if self._proxied[place] else self._direct(url, wanted)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"the object store does not answer: {error}") from error
        if response.status >= 400:
            response.read()
            raise Unreachable(f"the object store answered {response.status}")
        return response

    def _direct(self, url: str, wanted: dict[str, str]) -> http.client.HTTPResponse:
        where = urllib.parse.urlsplit(url)
        kept = self._stores.get(where.netloc)
        target = f"{where.path}?{where.query}"
        if kept is not None:
            try:
                kept.request("GET", target, headers=wanted)
                return kept.getresponse()
            except (OSError, http.client.HTTPException):
                kept.close()  # it may have been closed meanwhile
        kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
        made = self._stores[where.netloc] = kind(where.netloc, timeout=_TIMEOUT_S)
        made.request("GET", target, headers=wanted)
        return made.getresponse()

    def _some(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read(_CHUNK)
        except http.client.IncompleteRead as error:
            return error.partial
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"the transfer broke: {error}") from error

    def close(self) -> None:
        self._client.close()
        for connection in self._stores.values():
            connection.close()
        self._stores.clear()


class _Hashing:
    """The sha256 of what is added. `end` gives it, and is always called."""

    def __init__(self, size: int) -> None:
        self._digest = hashlib.sha256()
        self._waiting: queue.Queue[bytes] | None = queue.Queue(_AHEAD) if size >= _LARGE else None
        self._thread = threading.Thread(target=self._work, daemon=True)
        if self._waiting is not None:
            self._thread.start()

    def add(self, data: bytes) -> None:
        if self._waiting is None:
            self._digest.update(data)
        else:
            self._waiting.put(data)

    def end(self) -> str:
        if self._waiting is not None:
            self._waiting.put(b"")
            self._thread.join()
            self._waiting = None
        return self._digest.hexdigest()

    def _work(self) -> None:
        assert self._waiting is not None
        while data := self._waiting.get():
            self._digest.update(data)


def file_sha256(path: Path) -> str:
    hashing = _Hashing(0)
    _read_into(hashing, path)
    return hashing.end()


def _read_into(hashing: _Hashing, path: Path) -> None:
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            hashing.add(data)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _has_proxy(place: str) -> bool:
    """Whether the environment names a proxy for a URL's host."""
    import urllib.request

    where = urllib.parse.urlsplit(place)
    return where.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(where.hostname or "")


def _by_proxy(url: str, wanted: dict[str, str]) -> http.client.HTTPResponse:
    import urllib.error
    import urllib.request

    try:
        found: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=wanted), timeout=_TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        raise Unreachable(f"the object store answered {error.code}") from error
    return found
