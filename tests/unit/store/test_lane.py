"""The database's own thread: what is urgent overtakes what is not, and everything else keeps its order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from threading import Event
from typing import Any

import pytest

from provisioner.domain.urgency import is_urgent, urgently
from provisioner.store.lane import Lane, Outcome


def together(works: Sequence[Callable[[], Any]]) -> Sequence[Outcome]:
    return [outcome(work) for work in works]


def outcome(work: Callable[[], Any]) -> Outcome:
    try:
        return work(), None
    except ArithmeticError as error:
        return None, error


def test_what_is_urgent_comes_first_and_the_rest_in_its_order() -> None:
    lane, gate, done = Lane("test", together), Event(), list[str]()
    lane.submit(gate.wait, urgent=False)
    for name in ("a", "b!", "c", "d!"):
        lane.submit(lambda name=name: done.append(name), urgent=name.endswith("!"))  # type: ignore[misc]
    gate.set()
    lane.close()
    assert done == ["b!", "d!", "a", "c"]
    with pytest.raises(RuntimeError, match="closed"):
        lane.submit(gate.wait, urgent=True)


def test_what_failed_is_told_to_who_asked_and_what_is_not_wanted_is_left_out() -> None:
    lane, gate, done = Lane("test", together), Event(), list[str]()
    lane.submit(gate.wait, urgent=False)
    failing = lane.submit(lambda: 1 // 0, urgent=False)
    unwanted = lane.submit(lambda: done.append("unwanted"), urgent=False)
    assert unwanted.cancel()
    gate.set()
    lane.close()
    assert isinstance(failing.exception(), ZeroDivisionError)
    assert done == []


async def test_urgency_is_inherited_by_tasks_and_ends_with_its_block() -> None:
    async def told() -> bool:
        return is_urgent()

    async def relaxed() -> bool:
        with urgently(False):
            return is_urgent()

    with urgently():
        found = await asyncio.gather(told(), relaxed())
    assert (found, is_urgent()) == ([True, False], False)
