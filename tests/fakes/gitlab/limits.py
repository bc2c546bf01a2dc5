"""GitLab.com's limits as it publishes them, for each user and each runner: so many requests a minute of everything, and
so many of some endpoints.

What everything counts against is told in headers with every answer; refusals come as plain text, with Retry-After.
What single endpoints count is told nowhere before it is spent, and then without saying for how long. A minute is the
clock's own. Limits by plan (5,000 an hour for a user on Free) are announced and not in force.
Source: docs.gitlab.com, user/gitlab_com/rate_limits (current rate limits), administration/settings/
user_and_ip_rate_limits (response headers, project/:id/jobs), 2026; GitLab's lib/gitlab/rack_attack.rb.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from provisioner.domain.ports import Clock
from tests.fakes.forge_http import Answer, Asked

_EVERYTHING = "throttle_authenticated_api"
_SPENT = {"error": "This endpoint has been requested too many times. Try again later."}


@dataclass(frozen=True)
class Limit:
    """Of requests whose name fits `pattern`."""

    pattern: str
    most: int
    period_s: int = 60


ENDPOINTS = (
    Limit("GET /projects", 2000, 600),
    Limit("GET /projects/[^/]+", 400),
    Limit("GET /projects/[^/]+/jobs", 600),
    Limit("GET /groups/[^/]+", 400),
    Limit("GET /groups/[^/]+/projects", 600),
    Limit("POST /projects/[^/]+/(issues|merge_requests)/[^/]+/notes", 60),
)
OF_RUNNERS = (Limit("POST /jobs/request", 2000), Limit("PUT /jobs/[^/]+", 200))


def of_runners(asked: Asked) -> bool:
    return any(re.fullmatch(one.pattern, asked.name) for one in OF_RUNNERS)


@dataclass
class Limits:
    """`everything` may be shrunk. `refused` counts requests over a limit; `ignored` those of them that came although
    the same had been refused in that minute before; `most` is the highest count of an endpoint in a minute."""

    clock: Clock
    everything: int = 2000
    refused: int = 0
    ignored: int = 0
    most: Counter[str] = field(default_factory=Counter)
    _counts: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    def spend(self, who: str, left: float) -> None:
        """Of this minute so much is left, as a share."""
        self._counts[self._key(who, Limit(_EVERYTHING, 0))] = round(self.everything * (1 - left))

    def weigh(self, who: str, asked: Asked) -> Answer | None:
        """None lets it in."""
        if not of_runners(asked) and self._over(who, Limit(_EVERYTHING, self.everything)):
            left_s = 60 - int(self._now_s()) % 60
            ends = formatdate(self._now_s() + left_s, usegmt=True)
            told = {"Content-Type": "text/plain", "RateLimit-ResetTime": ends, "Retry-After": str(left_s)}
            return Answer(b"Retry later\n", 429, told)
        found = next((one for one in (*ENDPOINTS, *OF_RUNNERS) if re.fullmatch(one.pattern, asked.name)), None)
        return Answer({"message": _SPENT}, 429) if found is not None and self._over(who, found) else None

    def headers(self, who: str, asked: Asked) -> dict[str, str]:
        """Of people: what runners' programs may ask is not told."""
        if of_runners(asked):
            return {}
        observed = self._counts[self._key(who, Limit(_EVERYTHING, 0))]
        told: dict[str, Any] = {
            "Limit": self.everything,
            "Name": _EVERYTHING,
            "Observed": observed,
            "Remaining": max(0, self.everything - observed),
            "Reset": int(self._now_s()) // 60 * 60 + 60,
        }
        return {f"RateLimit-{name}": str(value) for name, value in told.items()}

    def _over(self, who: str, limit: Limit) -> bool:
        key = self._key(who, limit)
        self._counts[key] += 1
        count = self._counts[key]
        self.most[limit.pattern] = max(self.most[limit.pattern], count)
        self.refused += count > limit.most
        self.ignored += count > limit.most + 1
        return count > limit.most

    def _key(self, who: str, limit: Limit) -> tuple[str, str, int]:
        return who, limit.pattern, int(self._now_s()) // limit.period_s

    def _now_s(self) -> float:
        return self.clock.now().timestamp()
