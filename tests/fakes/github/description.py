"""GitHub's published description as the judge: does a request that passed, or its answer, differ from it?"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from openapi_core import Config, OpenAPI
from openapi_core.testing import MockRequest, MockResponse

from .shapes import description

if TYPE_CHECKING:
    from .server import Exchange

# What GitHub documents and its published description does not hold (deprecations), or the description has without it:
# any call may be refused for the credential, the limits, or a failure of GitHub's own.
_NOT_DESCRIBED = ("/actions/runners/deprecations/",)
_ANYWHERE = {304, 307, 401, 403, 404, 500, 502, 503}


_ENOUGH = 4


@cache
def judge() -> OpenAPI:
    return OpenAPI.from_dict(description(), config=Config(spec_validator_cls=None))


def mismatches(exchanges: Iterable[Exchange]) -> list[str]:
    """One line for each request or answer that is not as published. Of those that are alike, a few are looked at."""
    found = {}
    alike: Counter[tuple[str, str, int]] = Counter()
    for one in exchanges:
        kind = (one.method, re.sub(r"\d+", "N", one.path), one.status)
        alike[kind] += 1
        if any(path in one.path for path in _NOT_DESCRIBED) or alike[kind] > _ENOUGH:
            continue
        if why := _mismatch(one):
            found[f"{one.method} {one.path}: {one.status}: {why}"] = True
    return list(found)


def _mismatch(one: Exchange) -> str:
    data = json.dumps(one.body).encode() if one.body is not None else None
    request: Any = MockRequest(
        "http://forge.test",
        one.method.lower(),
        one.path,
        args=one.query,
        data=data,
        content_type="application/json" if data else "",
    )
    try:
        judge().validate_request(request)
        if one.status and one.status not in _ANYWHERE:
            content = json.dumps(one.answer).encode() if one.answer is not None else b""
            response: Any = MockResponse(content, one.status, content_type="application/json")
            judge().validate_response(request, response)
    except Exception as error:
        return _told(error)
    return ""


def _told(error: BaseException) -> str:
    parts = [f"{type(error).__name__} {error}"]
    parts += [str(getattr(one, "message", one))[:300] for one in getattr(error, "schema_errors", ())]
    return "; ".join([*parts, *([_told(error.__cause__)] if error.__cause__ else [])])
