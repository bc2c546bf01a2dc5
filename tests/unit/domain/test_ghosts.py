"""Which records of runners may go: anything that speaks for a machine keeps them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from provisioner.domain.forge import Runner
from provisioner.domain.ghosts import Rows, ghosts
from provisioner.domain.ids import instance_name, machine_of, new_id

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
HOUR_S = 3600.0
BITS = random.Random(7).getrandbits
OLD = instance_name(new_id("i", NOW - timedelta(hours=1), BITS))
YOUNG = instance_name(new_id("i", NOW - timedelta(minutes=59), BITS))


def offline(name: str) -> Runner:
    return Runner("1", name, online=False, busy=False)


def gone(*listed: Runner, seen: set[str] | None = None, **rows: set[str]) -> list[str]:
    before = {one.name for one in listed} if seen is None else seen
    return [one.name for one in ghosts(listed, before, Rows(**rows), NOW, HOUR_S)]


def test_an_old_one_that_nothing_speaks_for_goes() -> None:
    assert gone(offline(OLD), offline(f"{OLD}-2")) == [OLD, f"{OLD}-2"]


def test_one_that_is_known_here_to_be_gone_goes_however_young() -> None:
    assert gone(offline(YOUNG), Runner("2", f"{YOUNG}-2", online=True, busy=False), ours={YOUNG}) == [YOUNG]


@pytest.mark.parametrize(
    ("case", "listed"),
    [
        ("online", [Runner("1", OLD, online=True, busy=False)]),
        ("offline in the middle of a job", [Runner("1", OLD, online=False, busy=True)]),
        ("young", [offline(YOUNG)]),
        ("another of its machine's is online", [offline(OLD), Runner("2", f"{OLD}-2", online=True, busy=None)]),
        ("another of its machine's has a job", [offline(f"{OLD}-3"), Runner("2", OLD, online=False, busy=True)]),
        ("somebody's own name", [offline("runner-gpu-1"), offline("runner-i-1")]),
    ],
)
def test_what_speaks_for_a_machine_keeps_it(case: str, listed: list[Runner]) -> None:
    assert gone(*listed) == []


def test_seen_once_is_not_enough() -> None:
    assert gone(offline(OLD), seen=set()) == []


def test_one_that_a_row_here_expects_is_that_rows_business() -> None:
    assert gone(offline(OLD), there={OLD}, ours={OLD}) == []


def test_the_machine_is_in_the_name() -> None:
    assert (machine_of(f"{OLD}-12"), machine_of(OLD), machine_of("runner-gpu-1")) == (OLD, OLD, "runner-gpu-1")
