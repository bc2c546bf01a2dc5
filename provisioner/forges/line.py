"""The HTTP client under `rest`: made when it is first needed, bounded in time and in how much it does at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from provisioner.domain.errors import ForgeUnreachable

if TYPE_CHECKING:
    import httpx2

# Arbitrary: twenty at once, of which some are for removals, so that nothing else holds them up.
ORDINARY = 16
REMOVALS = 4
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer as it came. Names of headers are in lower case; `next` is the address of the next page, or "";
    `took_s` from the first byte sent to the last one read."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    next: str = ""
    took_s: float = 0.0


class Line:
    """`timeout_s` is for a whole exchange, from the first byte sent to the last one read; `at_once` exchanges are under
    way at most, and a few removals."""

    def __init__(self, timeout_s: float = TIMEOUT_S, at_once: int = ORDINARY) -> None:
        self._timeout_s = timeout_s
        self._client: httpx2.AsyncClient | None = None
        self._at_once = at_once + REMOVALS
        self._ordinary = asyncio.Semaphore(at_once)
        self._removals = asyncio.Semaphore(REMOVALS)

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        query: Any = None,
        body: Any = None,
        removal: bool = False,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> Raw:
        """Raises: ForgeUnreachable."""
        async with self._removals if removal else self._ordinary:
            began_s = monotonic_s()
            try:
                async with asyncio.timeout(self._timeout_s):
                    raw = await self.exchange(method, url, headers, query, body)
            except TimeoutError as error:
                raise ForgeUnreachable(f"{method} {url}: no answer in {self._timeout_s:g} s") from error
            return replace(raw, took_s=monotonic_s() - began_s)

    async def exchange(self, method: str, url: str, headers: Mapping[str, str], query: Any, body: Any) -> Raw:
        """Raises: ForgeUnreachable."""
        import httpx2

        if self._client is None:
            kept = httpx2.Limits(max_connections=None, max_keepalive_connections=self._at_once)
            self._client = httpx2.AsyncClient(timeout=self._timeout_s, follow_redirects=False, limits=kept)
        try:
            answer = await self._client.request(method, url, headers=headers, params=query, json=body)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ForgeUnreachable(f"{method} {url}: {error or type(error).__name__}") from error
        return Raw(answer.status_code, answer.headers, answer.content, answer.links.get("next", {}).get("url", ""))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None
