"""The judge of what passes between our client and the fake GitHub: what differs from the description is found."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.github import shapes
from tests.fakes.github.description import mismatches
from tests.fakes.github.server import Exchange

JOB = "/api/v3/repos/acme/vision/actions/jobs/7"
RUNNER = "/api/v3/repos/acme/vision/actions/runners/7"
JIT = "/api/v3/repos/acme/vision/actions/runners/generate-jitconfig"
WANTED = {"name": "a", "runner_group_id": 1, "labels": ["gpu"]}


def passed(method: str, path: str, status: int, answer: Any, body: Any = None) -> Exchange:
    return Exchange(method, path, {}, body, status, answer)


def job(**more: Any) -> Any:
    return shapes.complete(shapes.named("job"), more)


@pytest.mark.parametrize(
    "exchange",
    [
        passed("GET", JOB, 200, job()),
        passed("GET", JOB, 304, None),
        passed("GET", JOB, 502, None),
        passed("GET", JOB, 404, {"message": "Not Found"}),
        passed("DELETE", RUNNER, 204, None),
        passed("DELETE", RUNNER, 422, {"message": "busy", "documentation_url": ""}),
        passed("POST", JIT, 409, {"message": "Already exists"}, WANTED),
        passed("POST", JIT, 0, None, WANTED),
    ],
    ids=lambda one: f"{one.method}-{one.status}",
)
def test_what_is_as_published_passes(exchange: Exchange) -> None:
    assert mismatches([exchange]) == []


@pytest.mark.parametrize(
    "exchange",
    [
        passed("GET", JOB, 200, job(id="seven")),
        passed("GET", JOB, 304, {"message": "not modified"}),
        passed("GET", JOB, 401, {"message": 7}),
        passed("GET", JOB, 403, {}),
        passed("GET", JOB, 404, None),
        passed("GET", JOB, 418, {"message": "I'm a teapot"}),
        passed("DELETE", RUNNER, 422, {"message": "busy"}),
        passed("POST", JIT, 404, {"message": None}, WANTED),
        passed("POST", JIT, 0, None, {**WANTED, "labels": "gpu"}),
        passed("GET", "/api/v3/of/none", 404, {"message": "Not Found"}),
    ],
    ids=lambda one: f"{one.method}-{one.status}",
)
def test_what_is_not_is_found_whatever_its_status(exchange: Exchange) -> None:
    (told,) = mismatches([exchange])
    assert told.startswith(f"{exchange.method} {exchange.path}: {exchange.status}: ")


def test_each_shape_is_looked_at_however_many_of_others_came_before() -> None:
    """A key less, another type, or a value that is none of those that there are."""
    good = [passed("GET", JOB, 200, job(id=number)) for number in range(10)]
    less = job()
    del less["run_id"]
    for wrong in (less, {**job(), "name": None}, job(status="odd"), job(labels=["gpu", 7])):
        assert len(mismatches([*good, passed("GET", JOB, 200, wrong)])) == 1
    assert mismatches(good) == []


def test_what_is_wrong_with_one_is_said_of_all_that_are_like_it() -> None:
    wrong = [passed("GET", f"{JOB}{number}", 200, job(run_id="x")) for number in range(10)]
    assert len(mismatches(wrong)) == 10
