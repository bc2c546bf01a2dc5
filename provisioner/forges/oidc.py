"""Tokens that forges give to CI jobs: whether an issuer that we trust made one, for us, and for now.

Nothing of a token is believed before its signature was checked, but its issuer's name and its key's: the name has to be
one that the settings trust, so that nobody makes us ask an address of theirs. Keys are fetched from the issuer itself
over HTTPS, kept for an hour, and fetched again when a token names one that is not among them.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from provisioner.domain.errors import ForgeUnreachable, Unauthenticated
from provisioner.domain.ports import Clock

from .line import Line

# What GitHub and GitLab sign with, and its elliptic counterpart. Never a symmetric one: a public key is no secret.
ALGORITHMS = ("RS256", "ES256")
LEEWAY_S = 60.0  # arbitrary: how far two clocks may differ
_KEPT_S = 3600.0  # arbitrary: what was withdrawn is not believed for longer
_AGAIN_S = 30.0  # arbitrary: whoever sends us unknown keys does not make us ask more often
_LONGEST_S = 86400.0  # Source: GitLab, "ID tokens", 2026: at most a job's time-out, rarely above a day
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass
class _Keys:
    """`asked_s`, `had_s`: monotonic seconds of the last try and of the last success."""

    by_id: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    asked_s: float = float("-inf")
    had_s: float = float("-inf")
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Issuers:
    def __init__(self, trusted: Collection[str], clock: Clock, line: Line | None = None) -> None:
        self._trusted = {issuer: _Keys() for issuer in trusted}
        self._clock = clock
        self._line = line or Line()

    async def claims(self, token: str, audiences: Collection[str]) -> Mapping[str, Any]:
        """What the token says, once it was found to be genuine. Raises: Unauthenticated in one line, ForgeUnreachable
        when its issuer's keys cannot be had."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except jwt.PyJWTError as error:
            raise _refused("this is no token of a CI job") from error
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(issuer, str) or issuer not in self._trusted:
            raise _refused(f"tokens of {str(issuer)[:200]!r} are not taken here")
        if algorithm not in ALGORITHMS:
            raise _refused(f"a token that is signed by {str(algorithm)[:20]!r} is not taken")
        if not isinstance(key_id, str):
            raise _refused("this token does not say by which key it is signed")
        told = self._read(token, await self._key(issuer, key_id), algorithm, issuer, audiences)
        self._check_time(told)
        return told

    def _read(
        self, token: str, key: Mapping[str, Any], algorithm: str, issuer: str, audiences: Collection[str]
    ) -> Mapping[str, Any]:
        import jwt

        options: Any = {"require": ["exp", "iat", "iss", "aud"]} | {f"verify_{n}": False for n in ("exp", "nbf", "iat")}
        try:
            public = jwt.PyJWK(dict(key), algorithm=algorithm)
            told: Mapping[str, Any] = jwt.decode(
                token, public, algorithms=[algorithm], audience=list(audiences), issuer=issuer, options=options
            )
        except jwt.InvalidAudienceError as error:
            hint = f"ask your forge for one with the audience {' or '.join(sorted(audiences))}"
            raise Unauthenticated("this token is made out to somebody else", hint=hint) from error
        except jwt.InvalidSignatureError as error:
            raise _refused("the signature of this token is not its issuer's") from error
        except jwt.PyJWTError as error:
            raise _refused(f"this token is not valid: {str(error)[:200]}") from error
        return told

    def _check_time(self, told: Mapping[str, Any]) -> None:
        """By our own clock, which may differ a little from the issuer's."""
        now = self._clock.now().timestamp()
        made, starts, ends = (_moment(told, name) for name in ("iat", "nbf", "exp"))
        if now >= ends + LEEWAY_S:
            raise _refused("this token has expired")
        if max(made, starts) > now + LEEWAY_S:
            raise _refused("this token is not valid yet")
        if ends - made > _LONGEST_S:
            raise _refused("this token is good for longer than a CI job's")

    async def _key(self, issuer: str, key_id: str) -> Mapping[str, Any]:
        keys = self._trusted[issuer]
        async with keys.turn:
            now_s = self._clock.monotonic()
            stale = now_s - keys.had_s > _KEPT_S
            if (stale or key_id not in keys.by_id) and now_s - keys.asked_s > _AGAIN_S:
                keys.asked_s = now_s
                keys.by_id = await self._fetched(issuer)
                keys.had_s, stale = now_s, False
        if stale:
            raise ForgeUnreachable(f"the keys of {issuer} could not be had just now", hint="try again in a minute")
        if key_id not in keys.by_id:
            raise _refused(f"{issuer} has no key {key_id[:80]!r}")
        return keys.by_id[key_id]

    async def _fetched(self, issuer: str) -> dict[str, Mapping[str, Any]]:
        about = await self._json(f"{issuer}/.well-known/openid-configuration")
        if about.get("issuer") != issuer:
            raise ForgeUnreachable(f"what answers at {issuer} says that it is another issuer")
        listed = (await self._json(str(about.get("jwks_uri")))).get("keys")
        if not isinstance(listed, list):
            raise ForgeUnreachable(f"{issuer} has no list of keys")
        signing = [one for one in listed if isinstance(one, dict) and one.get("use", "sig") == "sig"]
        return {one["kid"]: one for one in signing if isinstance(one.get("kid"), str)}

    async def _json(self, url: str) -> Mapping[str, Any]:
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise ForgeUnreachable(f"{url[:200]!r} is not an https address")
        answer = await self._line.send("GET", url, {"accept": "application/json"})
        try:
            body = json.loads(answer.content) if answer.status == 200 else None
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise ForgeUnreachable(f"GET {url}: {answer.status}, and no JSON object")
        return body

    async def close(self) -> None:
        await self._line.close()


def _moment(told: Mapping[str, Any], name: str) -> float:
    """Seconds since 1970; for ever ago where it is not said. Raises: Unauthenticated."""
    at = told.get(name, 0)
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
        raise _refused(f"this token's {name} is no time")
    return float(at)


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(why, hint="a CI job gets one of its own from its forge")
