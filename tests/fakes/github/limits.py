"""GitHub's limits as it publishes them, for each identity: so many calls an hour, and so many points a minute.

Source: GitHub REST API rate limits, 2026: 5,000 an hour for an installation, 10,000 for registering runners; 900 points
a minute at one endpoint, of which a read costs 1 and anything else 5 (so that 180 runners a minute can be registered);
100 requests at once; 80 comments a minute; an unchanged listing costs nothing of the hour.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from .state import Time

REGISTRATION = "actions_runner_registration"


@dataclass
class Refusal:
    status: int
    message: str
    headers: dict[str, str]


@dataclass
class Limits:
    """`primary` and the others may be shrunk. `ignored` counts requests that came although their time was not over."""

    clock: Time
    primary: int = 5000
    registrations: int = 10_000
    points: int = 900
    at_once: int = 100
    comments: int = 80
    ignored: int = 0
    most_in_a_minute: Counter[str] = field(default_factory=Counter)
    _used: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    _minute: dict[tuple[str, str], deque[tuple[float, int]]] = field(default_factory=dict)
    _refused_until_s: dict[str, float] = field(default_factory=dict)

    def refuse(self, seconds: float) -> None:
        """Everybody, from now on."""
        self._refused_until_s["everybody"] = self.clock.monotonic() + seconds

    def spend(self, left: float) -> None:
        """Of every hour so much is left, as a share."""
        for who in {who for who, _ in self._used}:
            for resource in ("core", REGISTRATION):
                began, _ = self._window(who, resource)
                self._used[who, resource] = (began, round(self._limit(resource) * (1 - left)))

    def used(self, resource: str = "core") -> int:
        """Of everybody's hour."""
        return sum(used for (_, name), (_, used) in self._used.items() if name == resource)

    def weigh(self, who: str, endpoint: str, points: int, resource: str, at_once: int, comment: bool) -> Refusal | None:
        """A request that has arrived; None lets it in."""
        now_s = self.clock.monotonic()
        until_s = max(self._refused_until_s.get(who, 0.0), self._refused_until_s.get("everybody", 0.0))
        if until_s > now_s:
            self.ignored += who in self._refused_until_s
            self._refused_until_s[who] = until_s
            return self._secondary(until_s - now_s)
        if self._remaining(who, resource) <= 0:
            return Refusal(403, "API rate limit exceeded for installation.", self.headers(who, resource))
        over = self._over(who, endpoint, points, self.points) or at_once > self.at_once
        if over or (comment and self._over(who, "comments", 1, self.comments)):
            self._refused_until_s[who] = now_s + 60.0
            return self._secondary(60.0)
        began, used = self._window(who, resource)
        self._used[who, resource] = (began, used + 1)
        return None

    def unspend(self, who: str, resource: str) -> None:
        """It was not changed."""
        began, used = self._window(who, resource)
        self._used[who, resource] = (began, max(0, used - 1))

    def headers(self, who: str, resource: str) -> dict[str, str]:
        began, used = self._window(who, resource)
        reset = self.clock.now().timestamp() + (began + 3600.0 - self.clock.monotonic())
        limit = self._limit(resource)
        told = {"limit": limit, "remaining": max(0, limit - used), "used": used, "reset": int(reset) + 1}
        return {f"x-ratelimit-{name}": str(value) for name, value in told.items()} | {"x-ratelimit-resource": resource}

    def _secondary(self, seconds: float) -> Refusal:
        message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        return Refusal(403, message, {"retry-after": str(int(seconds) + 1)})

    def _over(self, who: str, endpoint: str, points: int, most: int) -> bool:
        """A sliding minute: GitHub does not say where its minutes begin, and this is the strictest."""
        now_s = self.clock.monotonic()
        minute = self._minute.setdefault((who, endpoint), deque())
        while minute and minute[0][0] <= now_s - 60.0:
            minute.popleft()
        minute.append((now_s, points))
        self.most_in_a_minute[endpoint] = max(self.most_in_a_minute[endpoint], len(minute))
        return sum(cost for _, cost in minute) > most

    def _limit(self, resource: str) -> int:
        return self.registrations if resource == REGISTRATION else self.primary

    def _remaining(self, who: str, resource: str) -> int:
        return self._limit(resource) - self._window(who, resource)[1]

    def _window(self, who: str, resource: str) -> tuple[float, int]:
        now_s = self.clock.monotonic()
        began, used = self._used.get((who, resource), (now_s, 0))
        if now_s - began >= 3600.0:
            began, used = now_s, 0
        self._used[who, resource] = (began, used)
        return began, used
