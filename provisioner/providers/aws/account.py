"""One AWS account: clients by region, calls at the pace that the account allows, and errors as ours.

boto3 is imported on first use and works in threads; whoever is cancelled while a call is under way loses the answer,
never the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from provisioner.domain.credentials import Identity, Keys
from provisioner.domain.errors import ProviderError, Rejected, Throttled, Unauthorized, Unreachable
from provisioner.domain.extras import installed_by
from provisioner.domain.offer import Offer
from provisioner.domain.ports import Clock

from . import handed
from .pace import RATES, Bucket, Calls
from .refusals import refusal

_AT_ONCE = 32  # threads; arbitrary, above what the buckets let through in the time of one call
_CONNECT_S, _ANSWER_S = 5, 30
LOG_IN = "`aws configure` or `aws sso login`, or name a profile in AWS_PROFILE or the settings"
_NO_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "RefreshWithMFAUnsupportedError",
)
# What AWS says of credentials that were good once. Source: "Error codes for the Amazon EC2 API", and "Common errors".
_OVER = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_FIRST_REGION = "us-east-1"  # asked where neither profile nor environment names one; every account has it
_NO_ANSWER = ("HTTPClientError", "ConnectionError", "ResponseParserError", "ChecksumError")


class Account:
    """`profile` names one of the SDK's own; "" is whatever its chain finds. With `keys`, nothing but these is used."""

    def __init__(self, clock: Clock, profile: str = "", keys: Keys | None = None) -> None:
        self._clock = clock
        self._profile = profile
        self._keys = keys
        self._way: Mapping[str, str] = {}
        self._session: Any = None
        self._clients: dict[tuple[str, str], Any] = {}
        self._making = threading.Lock()
        self._buckets: dict[tuple[Calls, str], Bucket] = {}
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="aws")

    async def call(
        self,
        pace: Calls,
        region: str,
        operation: str,
        *,
        service: str = "ec2",
        offer: Offer | None = None,
        **words: Any,
    ) -> Mapping[str, Any]:
        """One request, its token taken first. `offer`: what a refusal would be about. Raises: ProviderError."""
        bucket = self._bucket(pace, region)
        await bucket.take()
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._answer, region, service, operation, words, offer)
        try:
            return await asyncio.shield(work)
        except Throttled:
            bucket.empty()
            raise

    async def pages(
        self, region: str, operation: str, part: str, *, size: int = 1000, **words: Any
    ) -> list[Mapping[str, Any]]:
        """All of `part` over all pages, each paid for with a token; never some of them. Raises: ProviderError."""
        found: list[Mapping[str, Any]] = []
        more: dict[str, Any] = {}
        while True:
            page = await self.call(Calls.READ, region, operation, MaxResults=size, **words, **more)
            found += page[part]
            if not page.get("NextToken"):
                return found
            more = {"NextToken": page["NextToken"]}

    async def enabled_regions(self) -> tuple[str, ...]:
        """All that the account may use. Raises: ProviderError."""
        answer = await self.call(Calls.READ, await self.default_region(), "describe_regions")
        return tuple(sorted(row["RegionName"] for row in answer["Regions"]))

    async def default_region(self) -> str:
        """Of the profile or the environment; where neither says, one that every account has."""

        def look() -> str:
            with ours():
                if self._keys is not None:
                    return self._keys.current().way.get("region") or _FIRST_REGION
                return str(self._opened().region_name or _FIRST_REGION)

        return await asyncio.get_running_loop().run_in_executor(self._threads, look)

    async def identity(self) -> Identity:
        """Whose credentials these are; nobody needs a permission to ask. Raises: ProviderError."""
        region = await self.default_region()
        answer = await self.call(Calls.READ, region, "get_caller_identity", service="sts")
        return Identity(str(answer["Account"]), _without_session(str(answer["Arn"])))

    def check(self) -> None:
        """Raises: Unauthorized while there is nothing to sign a call with."""
        if self._keys is not None:
            self._keys.current()

    def close(self) -> None:
        """Calls under way come to their end."""
        self._threads.shutdown(wait=False)

    def _bucket(self, pace: Calls, region: str) -> Bucket:
        key = pace, region
        if key not in self._buckets:
            self._buckets[key] = Bucket(RATES[pace], self._clock)
        return self._buckets[key]

    def _answer(
        self, region: str, service: str, operation: str, words: dict[str, Any], offer: Offer | None
    ) -> Mapping[str, Any]:
        used = self._keys.current() if self._keys is not None else None
        try:
            with ours(offer):
                call: Callable[..., Mapping[str, Any]] = getattr(self._client(service, region), operation)
                return call(**words)
        except Unauthorized as error:
            if self._keys is not None and used is not None and error.message.partition(":")[0] in _OVER:
                self._keys.expired(used)
            raise

    def _client(self, service: str, region: str) -> Any:
        from botocore.config import Config

        with self._making:
            self._follow_way()
            if (service, region) not in self._clients:
                config = Config(
                    connect_timeout=_CONNECT_S,
                    read_timeout=_ANSWER_S,
                    retries={"total_max_attempts": 1},  # the engine asks again, under the same name
                    max_pool_connections=_AT_ONCE,
                    user_agent_extra="gpu-runner",
                )
                words: dict[str, Any] = {}
                if self._keys is not None:
                    config, words = config.merge(handed.config(self._way)), handed.words(self._way, service)
                session = self._opened()
                self._clients[service, region] = session.client(service, region_name=region, config=config, **words)
            return self._clients[service, region]

    def _follow_way(self) -> None:
        """Keys may change at any time and are read for each request; where they lead elsewhere, clients are new."""
        if self._keys is not None and (way := self._keys.current().way) != self._way:
            self._way = way
            self._clients.clear()

    def _opened(self) -> Any:
        import boto3

        if self._session is None and self._keys is not None:
            self._session = handed.session(self._keys)
        elif self._session is None:
            self._session = boto3.Session(profile_name=self._profile or None)
        return self._session


def _without_session(arn: str) -> str:
    """An assumed role's ARN ends in the name of the session, which is another every time."""
    head, slash, session = arn.rpartition("/")
    return head if ":assumed-role/" in arn and slash and session else arn


@contextlib.contextmanager
def ours(offer: Offer | None = None) -> Iterator[None]:
    """botocore's errors as ours (L6)."""
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:
        raise translated(error, offer) from error


def translated(error: Exception, offer: Offer | None = None) -> ProviderError:
    """What a failed call means for whoever made it."""
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    said = response.get("Error", {})
    if said.get("Code"):
        ours = refusal(str(said["Code"]), str(said.get("Message", "")), offer)
        theirs = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
        return Unreachable(ours.message) if theirs and isinstance(ours, Rejected) else ours
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, ImportError):
        return Unauthorized("AWS needs boto3", hint=installed_by("aws"))
    if names & set(_NO_CREDENTIALS):
        return Unauthorized(f"no AWS credentials: {error}", hint=LOG_IN)
    if names & set(_NO_ANSWER) or isinstance(error, OSError):
        return Unreachable(f"AWS did not answer: {error}")
    return Rejected(f"{type(error).__name__}: {error}")
