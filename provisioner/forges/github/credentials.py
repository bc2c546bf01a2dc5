"""Who we are at GitHub: a personal token, or an App, whose signed word gets a token for each place that installed it.

An installation's token lives for an hour. It is kept, and renewed well before its end; one that is refused is dropped.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from provisioner.domain.errors import ForgeUnauthorized
from provisioner.domain.ports import Clock

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

API_VERSION = "2022-11-28"
_HEADERS = {
    "accept": "application/vnd.github+json",
    "x-github-api-version": API_VERSION,
    "user-agent": "gpu-runner",
}
_SKEW_S = 60  # Source: GitHub, "Generating a JSON Web Token for a GitHub App", 2026: issued a minute ago, for its drift
_JWT_S = 540  # and good for ten minutes at most
_TOKEN_S = 3600.0  # Source: the same, "Create an installation access token": it lives for an hour
_EARLY_S = 600.0  # arbitrary: renewed so long before its end


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """A personal access token, or any other that is used as it is."""

    value: str

    def __repr__(self) -> str:
        return "Token(...)"


@dataclass(frozen=True, slots=True, repr=False)
class App:
    """`id` is the App's client id or number; `key` its private key in PEM."""

    id: str
    key: str

    def __repr__(self) -> str:
        return f"App({self.id!r})"


class Fixed:
    """The identity of a token that is used as it is."""

    def __init__(self, token: Token) -> None:
        self._token = token

    async def headers(self) -> Mapping[str, str]:
        return {**_HEADERS, "authorization": f"Bearer {self._token.value}"}

    def refused(self) -> None:
        """It is the only one that there is."""


class Signed:
    """The identity of the App itself, which may ask for very little."""

    def __init__(self, app: App, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def headers(self) -> Mapping[str, str]:
        return {**_HEADERS, "authorization": f"Bearer {signed(self._app, self._clock.now())}"}

    def refused(self) -> None:
        """Each is made anew."""


class Installation:
    """The identity of an App where it is installed. `fetch` gets a token and when it ends."""

    def __init__(self, fetch: Callable[[], Awaitable[tuple[str, datetime]]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._token = ""
        self._until_s = 0.0
        self._turn = asyncio.Lock()

    async def headers(self) -> Mapping[str, str]:
        async with self._turn:
            if not self._token or self._clock.monotonic() >= self._until_s:
                self._token, ends_at = await self._fetch()
                lives_s = min(_TOKEN_S, (ends_at - self._clock.now()).total_seconds())
                self._until_s = self._clock.monotonic() + max(lives_s - _EARLY_S, lives_s / 2)
            return {**_HEADERS, "authorization": f"Bearer {self._token}"}

    def refused(self) -> None:
        self._token = ""


def signed(app: App, now: datetime) -> str:
    """A JSON Web Token by RS256. No two are the same: GitHub refuses one that it has seen in the same second.

    Raises: ForgeUnauthorized, for a key that is none."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    if (key := _loaded(app.key)) is None:
        raise ForgeUnauthorized(f"the private key of App {app.id} is not an RSA key in PEM", hint="download a new one")
    at = int(now.timestamp())
    claims = {"iat": at - _SKEW_S, "exp": at + _JWT_S, "iss": app.id, "jti": uuid.uuid4().hex}
    said = f"{_packed({'alg': 'RS256', 'typ': 'JWT'})}.{_packed(claims)}"
    return f"{said}.{_url64(key.sign(said.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@lru_cache(maxsize=4)
def _loaded(pem: str) -> RSAPrivateKey | None:
    """Kept: reading one checks its numbers, which takes a third of a second. None: it is no such key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, RSAPrivateKey) else None


def _packed(part: Mapping[str, object]) -> str:
    return _url64(json.dumps(part, separators=(",", ":")).encode())


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
