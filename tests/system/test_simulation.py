"""Invariants 1 to 7 over random episodes of crashes and faults, and what each protection is there for."""

from __future__ import annotations

import pytest

from tests.fakes.episode import PROTECTIONS, Protection, episode
from tests.fakes.simstore import SimStore
from tests.fakes.simulation import Violation

_EPISODES = 150
_AT_A_TIME = 25


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


@pytest.mark.parametrize("first", range(0, _EPISODES, _AT_A_TIME))
def test_the_invariants_hold_whatever_happens(first: int, store: SimStore) -> None:
    for seed in range(first, first + _AT_A_TIME):
        try:
            episode(seed, store=store)
        except Violation as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("seed", [5, 105754, 306454])
def test_what_once_broke_an_invariant_holds(seed: int, store: SimStore) -> None:
    """Found by the soak: a wait without end, a checker too strict, a machine from before a clock was set back."""
    episode(seed, store=store)


def test_an_episode_follows_from_its_seed(store: SimStore) -> None:
    assert episode(11, store=store) == episode(11, store=store)


@pytest.mark.parametrize("protection", PROTECTIONS, ids=lambda protection: protection.name)
def test_without_this_protection_an_invariant_breaks(protection: Protection, store: SimStore) -> None:
    """Where no seed breaks it any more, `python -m tests.fakes.seeds` looks for another."""
    with pytest.raises(Violation) as found:
        episode(protection.seed, off=protection.name, stress=protection.stress, store=store)
    assert found.value.invariant == protection.breaks


@pytest.mark.parametrize(
    "protection", [p for p in PROTECTIONS if not p.is_the_clouds], ids=lambda protection: protection.name
)
def test_with_it_the_same_episode_holds(protection: Protection, store: SimStore) -> None:
    episode(protection.seed, stress=protection.stress, store=store)
