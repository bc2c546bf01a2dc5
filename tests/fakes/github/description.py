"""GitHub's published description as the judge: does a request that passed, or its answer, differ from it?"""

from __future__ import annotations

import copy
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from openapi_core import Config, OpenAPI
from openapi_core.templating.responses.exceptions import ResponseNotFound
from openapi_core.testing import MockRequest, MockResponse
from openapi_schema_validator import OAS30Validator

from .shapes import description, named

if TYPE_CHECKING:
    from .server import Exchange

# What GitHub documents and its published description does not hold (deprecations), or the description has without it:
# any call may be refused for the credential or the limits, sent elsewhere, or be unchanged, and is then answered by the
# same error everywhere, or by nothing.
_NOT_DESCRIBED = ("/actions/runners/deprecations/",)
_ERRORS = {307, 401, 403, 404}
_EMPTY = {304}
_RANGES = ("created",)  # said to be a date-time, and documented as a range of them, in the syntax of searches
_BROKEN = range(500, 600)  # a failure of GitHub's own, whose answer is anything

_ENOUGH = 2
_OWNER = re.compile(r"/(repos/[^/]+/[^/]+|orgs/[^/]+)")
_NAMES = re.compile(r"(?<=/)(\d+|[0-9a-f]{40})(?=/|$)")
_looked: defaultdict[Any, list[str]] = defaultdict(list)  # by shape, what was found in each


@cache
def judge() -> OpenAPI:
    published = copy.deepcopy(description())
    for name in _RANGES:
        del published["components"]["parameters"][name]["schema"]["format"]
    return OpenAPI.from_dict(published, config=Config(spec_validator_cls=None))


def mismatches(exchanges: Iterable[Exchange]) -> list[str]:
    """One line for each request or answer that is not as published. Of those that have the same shape, all of a
    process's, a few are looked at, and all are like these."""
    found = {}
    for one in exchanges:
        if any(path in one.path for path in _NOT_DESCRIBED):
            continue
        looked = _looked[_shape(one)]
        if len(looked) < _ENOUGH:
            looked.append(_mismatch(one))
        if why := next(filter(None, looked), ""):
            found[f"{one.method} {one.path}: {one.status}: {why}"] = True
    return list(found)


def _shape(one: Exchange) -> Any:
    path = _NAMES.sub("N", _OWNER.sub(lambda match: f"/{match[1].partition('/')[0]}/N", one.path))
    return one.method, path, frozenset(one.query), one.status, _like(one.body), _like(one.answer)


def _like(value: Any, key: str = "") -> Any:
    """Keys and types all the way down; and the value itself where the description says which there are."""
    if isinstance(value, dict):
        return frozenset((name, _like(each, name)) for name, each in value.items())
    if isinstance(value, list):
        return (list, frozenset(_like(each, key) for each in value))
    return value if key in _enumerated() and isinstance(value, str) else type(value)


@cache
def _enumerated() -> frozenset[str]:
    return frozenset(_with_values(description()))


def _with_values(node: Any) -> Iterator[str]:
    """Names of properties that have an `enum`."""
    if isinstance(node, dict):
        for name, one in node.get("properties", {}).items():
            if isinstance(one, dict) and ("enum" in one or "enum" in one.get("items", ())):
                yield name
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from _with_values(one)


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
        return _answered(one, request) if one.status else ""
    except Exception as error:
        return _told(error)


def _answered(one: Exchange, request: Any) -> str:
    content = json.dumps(one.answer).encode() if one.answer is not None else b""
    response: Any = MockResponse(content, one.status, content_type="application/json")
    try:
        judge().validate_response(request, response)
    except ResponseNotFound:
        if one.status in _ERRORS:
            return "; ".join(error.message for error in _error().iter_errors(one.answer))
        if one.status in _EMPTY:
            return "" if one.answer is None else "an answer that should be empty is not"
        if one.status not in _BROKEN:
            raise
    return ""


@cache
def _error() -> Any:
    return OAS30Validator({**named("basic-error"), "required": ["message"]})


def _told(error: BaseException) -> str:
    parts = [f"{type(error).__name__} {error}"]
    parts += [str(getattr(one, "message", one))[:300] for one in getattr(error, "schema_errors", ())]
    return "; ".join([*parts, *([_told(error.__cause__)] if error.__cause__ else [])])
