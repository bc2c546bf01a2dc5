"""What a GitLab counts of some endpoints without telling how much is left, and so is counted here.

Source: docs.gitlab.com, user/gitlab_com/rate_limits and administration/settings/user_and_ip_rate_limits (response
headers, project/:id/jobs), 2026: GitLab.com's, for a user; other instances have them at the most, unless they are set
lower. A hundredth is left for others who use the same token.
"""

from __future__ import annotations

import re

from ..budget import Rate
from ..rest import Dialect

_RATES = (
    (re.compile(r"GET /projects"), Rate(1980, 600.0)),
    (re.compile(r"GET /projects/[^/]+"), Rate(396)),
    (re.compile(r"GET /projects/[^/]+/jobs"), Rate(594)),
    (re.compile(r"GET /groups/[^/]+"), Rate(396)),
    (re.compile(r"GET /groups/[^/]+/projects"), Rate(594)),
    (re.compile(r"POST /projects/[^/]+/(?:issues|merge_requests)/[^/]+/notes"), Rate(59)),
)


def endpoint(method: str, path: str) -> tuple[str, Rate | None]:
    for pattern, rate in _RATES:
        if pattern.fullmatch(f"{method} {path}"):
            return pattern.pattern, rate
    return "", None


DIALECT = Dialect(prefix="ratelimit-", names="ratelimit-name", endpoint=endpoint)
