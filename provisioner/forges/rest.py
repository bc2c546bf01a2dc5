"""The edge that all forges share: one identity's calls of a REST API, and what becomes of them.

A status or a broken line becomes one ForgeError by one table. Nothing is retried here: the same action later is the
caller's, which comes round anyway. What may be asked is `budget`'s to say; listings are followed to their last page and
asked for with what is known of them already, so that an unchanged one costs nothing. No error holds a credential.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

from provisioner.domain.errors import (
    ForgeError,
    ForgeRefused,
    ForgeThrottled,
    ForgeUnauthorized,
    ForgeUnreachable,
)
from provisioner.domain.ports import Clock

from .budget import Allowance, Budget, Rate
from .line import Line, Raw

# By status, and by its hundred where it has no line of its own.
OUTCOMES: Mapping[int, tuple[type[ForgeError], str]] = {
    401: (ForgeUnauthorized, "look whether the credential is right and still valid"),
    403: (ForgeUnauthorized, "look what the credential may do"),
    404: (ForgeRefused, "it does not exist, or the credential may not see it"),
    408: (ForgeUnreachable, ""),
    429: (ForgeThrottled, ""),
    3: (ForgeRefused, "use the address where it is now"),
    4: (ForgeRefused, ""),
    5: (ForgeUnreachable, "whether it was done is not known"),
}
_SECRET = ("authorization", "private-token", "job-token", "runner-token", "x-runner-token")
_MOVED = {301, 302, 307, 308}
_HOPS = 3
_PASSES = 3
# Arbitrary: how long a call waits for its turn in seconds. Who would register later than that is told so instead, and
# keeps no request open; a listing of many pages has nobody waiting for it.
_PATIENCE_S = {False: 15.0, True: 600.0}
_MOST_PAGES = 1000
# Listings remembered for one identity, arbitrary: several times what is asked of 200 repositories in every pass. With
# fewer than that, each would be forgotten just before it is asked for again.
_MOST_KNOWN = 4000


class Identity(Protocol):
    """Who asks. `refused`: the forge no longer knows what `headers` gave, so that it is not given again."""

    async def headers(self) -> Mapping[str, str]: ...
    def refused(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a forge tells of its limits: headers that begin with `prefix` and end in limit, remaining, reset (in seconds
    since 1970), and the one that names what was counted. `endpoint`: what a method and a path below the API are counted
    as without telling, and how fast that may be called; None: as fast as one likes."""

    prefix: str = "x-ratelimit-"
    names: str = "x-ratelimit-resource"
    endpoint: Callable[[str, str], tuple[str, Rate | None]] = lambda method, path: ("", None)


@dataclass(frozen=True, slots=True)
class Answer:
    """`total`: how many things the listing has that this is a page of, where the forge says so; `cost` how many calls
    it counts of the hour."""

    status: int
    body: Any
    next: str = ""
    total: int | None = None
    cost: int = 1


class Found(list[Any]):
    """Everything on all pages, and what it cost."""

    cost = 0


@dataclass(frozen=True, slots=True)
class _Listing:
    """See `Rest.pages`."""

    path: str
    query: Mapping[str, str] | None
    key: str
    most: int
    removal: bool
    until: Callable[[Any], bool] | None

    def items(self, body: Any) -> list[Any]:
        found = body.get(self.key) if self.key and isinstance(body, dict) else body
        if not isinstance(found, list):
            raise ForgeUnreachable(f"GET {self.path}: a page is not a list", hint="something else answers there")
        return found


class Rest:
    """One identity at one forge. Paths are below `base`, without a slash at the end."""

    def __init__(
        self,
        base: str,
        identity: Identity,
        line: Line,
        clock: Clock,
        dialect: Dialect | None = None,
        *,
        most_known: int = _MOST_KNOWN,
    ) -> None:
        self.base = base
        self._identity = identity
        self._line = line
        self._clock = clock
        self._dialect = dialect or Dialect()
        self._budget = Budget(clock)
        self._most_known = most_known
        self._known: OrderedDict[str, tuple[str, Answer]] = OrderedDict()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        expect: Collection[int] = (),
        removal: bool = False,
        resource: str = "core",
    ) -> Answer:
        """The answer, whose status is 2xx or one of `expect`. `removal`: it may use what is kept for those; `resource`:
        what the forge counts it as.

        Raises: ForgeError."""
        url = path if path.startswith(self.base) else self.base + path
        known = self._known.get(_with(url, query)) if method == "GET" else None
        endpoint, rate = self._dialect.endpoint(method, urlsplit(url.removeprefix(self.base)).path)
        async with self._budget.turn(resource, removal, endpoint, rate, _PATIENCE_S[method == "GET"]) as exchange:
            headers = {**await self._identity.headers(), **({"if-none-match": known[0]} if known else {})}
            raw = await self._sent(method, url, headers, query, body, removal)
            exchange.took_s = raw.took_s
        what = f"{method} {urlsplit(url).path}"
        secrets = [headers[name].split()[-1] for name in _SECRET if headers.get(name)]
        self._weigh(raw, resource, what, secrets)
        if raw.status == 304 and known:
            self._remember(_with(url, query), known)
            return replace(known[1], cost=0)
        if 200 <= raw.status < 300 or raw.status in expect:
            return self._read(raw, what, _with(url, query) if method == "GET" and raw.status == 200 else "")
        if raw.status == 401:
            self._identity.refused()
        kind, hint = OUTCOMES.get(raw.status) or OUTCOMES.get(raw.status // 100) or (ForgeUnreachable, "")
        raise kind(f"{what}: {raw.status} {_said(raw, secrets)}".rstrip(), hint=hint)

    async def pages(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        key: str = "",
        most: int = 0,
        removal: bool = False,
        until: Callable[[Any], bool] | None = None,
    ) -> Found:
        """Everything on all pages; `key` is where a page has its items, "" when it is nothing but those. `most`: no
        more of them can be reached, however many there are. `until`: the page that has such an item is the last that
        is read.

        A list that changes while it is read can hide what was there all the time: what moves up onto a page that was
        read already. Where the forge says how many there are, such a list is read again, and what any reading
        found counts."""
        listing = _Listing(path, query, key, most, removal, until)
        every: dict[Any, Any] = {}
        cost = 0
        for _ in range(_PASSES):
            found, calm = await self._once_through(listing)
            cost += found.cost
            if calm:
                break
            every |= {item["id"]: item for item in found}
        else:
            found = Found(every.values())
        found.cost = cost
        return found

    async def _once_through(self, listing: _Listing) -> tuple[Found, bool]:
        items = Found()
        totals: set[int] = set()
        url, query, read = listing.path, listing.query, set[str]()
        for _ in range(_MOST_PAGES):
            answer = await self.call("GET", url, query=query, removal=listing.removal)
            found = listing.items(answer.body)
            items.extend(found)
            items.cost += answer.cost
            if answer.total is not None:
                totals.add(min(answer.total, listing.most or answer.total))
            if not answer.next or (listing.until is not None and any(map(listing.until, found))):
                return items, not totals or totals == {len({item["id"] for item in items})}
            read.add(url)
            url, query = answer.next, None
            if url in read:
                break
        raise ForgeUnreachable(f"GET {listing.path}: its pages never end", hint="something else answers there")

    async def _sent(
        self, method: str, url: str, headers: Mapping[str, str], query: Any, body: Any, removal: bool
    ) -> Raw:
        """What was renamed is followed to where it is now, and never to another host."""
        for _ in range(_HOPS):
            raw = await self._line.send(method, url, headers, query, body, removal, self._clock.monotonic)
            to = urljoin(url, raw.headers.get("location", ""))
            if raw.status not in _MOVED or not to.startswith(self.base + "/"):
                break
            url, query = to, None
        return raw

    def _weigh(self, raw: Raw, resource: str, what: str, secrets: list[str]) -> None:
        """Raises: ForgeThrottled, and holds everything back."""
        allowance = self._allowance(raw)
        counted = raw.headers.get(self._dialect.names, resource)
        self._budget.note(resource, counted, allowance, free=raw.status == 304)
        refused, wait_s = _patience(raw, allowance, self._clock.monotonic())
        if not refused:
            if raw.status < 500:
                self._budget.served()
            return
        wait_s = self._budget.hold(wait_s)
        raise ForgeThrottled(f"{what}: {raw.status} {_said(raw, secrets)}".rstrip(), retry_after_s=wait_s)

    def _allowance(self, raw: Raw) -> Allowance | None:
        """The forge's own clock says how long it is until the reset: ours may differ."""
        prefix = self._dialect.prefix
        try:
            limit, left = int(raw.headers[prefix + "limit"]), int(raw.headers[prefix + "remaining"])
            reset_s = float(raw.headers[prefix + "reset"])
        except (KeyError, ValueError):
            return None
        now_s = self._clock.now().timestamp()
        with suppress(KeyError, ValueError):
            now_s = parsedate_to_datetime(raw.headers["date"]).timestamp()
        return Allowance(limit, left, self._clock.monotonic() + max(0.0, reset_s - now_s))

    def _read(self, raw: Raw, what: str, remember: str) -> Answer:
        try:
            body = json.loads(raw.content) if raw.content.strip() else None
        except ValueError as error:
            raise ForgeUnreachable(f"{what}: not JSON", hint="something else answers there") from error
        if raw.next and not raw.next.startswith(self.base + "/"):
            raise ForgeUnreachable(f"{what}: its next page is at another address", hint="is the forge's address right?")
        answer = Answer(raw.status, body, raw.next, _total(raw, body))
        if remember and (tag := raw.headers.get("etag")):
            self._remember(remember, (tag, answer))
        return answer

    def _remember(self, url: str, known: tuple[str, Answer]) -> None:
        """Forgotten is what was not asked for for the longest time, such as the jobs of a run that is over."""
        self._known[url] = known
        self._known.move_to_end(url)
        if len(self._known) > self._most_known:
            self._known.popitem(last=False)


def _patience(raw: Raw, allowance: Allowance | None, now_s: float) -> tuple[bool, float | None]:
    """Whether the forge asks for patience, and for how long if it says so, in seconds.

    Source: GitHub REST rate limits and GitLab rate limits, 2026."""
    after = raw.headers.get("retry-after", "")
    if after and raw.status in (403, 429, 503):
        return True, float(after) if after.isdigit() else None
    if raw.status in (403, 429) and allowance is not None and allowance.left <= 0:
        return True, max(1.0, allowance.until_s - now_s)
    return raw.status == 429 or (raw.status == 403 and b"rate limit" in raw.content.lower()), None


def _total(raw: Raw, body: Any) -> int | None:
    if isinstance(body, dict) and isinstance(total := body.get("total_count"), int):
        return total
    told = raw.headers.get("x-total") or raw.headers.get("x-total-count") or ""
    return int(told) if told.isdigit() else None


def _said(raw: Raw, secrets: list[str]) -> str:
    """The forge's own words on one line."""
    try:
        body = json.loads(raw.content)
    except ValueError:
        return ""
    told = body.get("message") or body.get("error") if isinstance(body, dict) else ""
    text = " ".join(str(told or "").split())[:300]
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _with(url: str, query: Mapping[str, str] | None) -> str:
    return f"{url}?{sorted(query.items())}" if query else url
