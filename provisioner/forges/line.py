"""The HTTP client under `rest`: made when it is first needed, bounded in time and in how much it does at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from provisioner.domain.errors import ForgeUnreachable

if TYPE_CHECKING:
    import httpx2

# Twenty at once, of a hundred that GitHub allows one identity: some for removals, so that nothing else holds them up.
ORDINARY = 16
REMOVALS = 4
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer as it came. Names of headers are in lower case; `next` is the address of the next page, or ""."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    next: str = ""


class Line:
    """`timeout_s` is for a whole exchange, from the first byte sent to the last one read; `at_once` exchanges are under
    way at most, and a few removals."""

    def __init__(self, timeout_s: float = TIMEOUT_S, at_once: int = ORDINARY) -> None:
        self._timeout_s = timeout_s
        self._client: httpx2.AsyncClient | None = None
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
    ) -> Raw:
        """Raises: ForgeUnreachable."""
        import httpx2

        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=self._timeout_s, follow_redirects=False)
        async with self._removals if removal else self._ordinary:
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await self._client.request(method, url, headers=headers, params=query, json=body)
            except TimeoutError as error:
                raise ForgeUnreachable(f"{method} {url}: no answer in {self._timeout_s:g} s") from error
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise ForgeUnreachable(f"{method} {url}: {error or type(error).__name__}") from error
        return Raw(answer.status_code, answer.headers, answer.content, answer.links.get("next", {}).get("url", ""))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None
