"""Ten thousand episodes of commands, as many of CI runners, and two thousand of pools. `SOAK_FIRST` chooses others."""

from __future__ import annotations

import os

import pytest

from tests.fakes.ci_episode import CiEpisode
from tests.fakes.episode import Episode, episode
from tests.fakes.pool_episode import PoolEpisode
from tests.fakes.simstore import SimStore
from tests.fakes.simulation import Violation

_FIRST = int(os.environ.get("SOAK_FIRST", "100000"))
_EPISODES: dict[str, tuple[type[Episode], int]] = {
    "commands": (Episode, 10_000),
    "ci-runners": (CiEpisode, 10_000),
    "pools": (PoolEpisode, 2_000),
}
_AT_A_TIME = 250


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("of", "first"),
    [(of, first) for of, (_, count) in _EPISODES.items() for first in range(_FIRST, _FIRST + count, _AT_A_TIME)],
)
def test_the_invariants_hold_in_thousands_of_episodes(of: str, first: int) -> None:
    store, broken = SimStore(), []
    for seed in range(first, first + _AT_A_TIME):
        try:
            episode(seed, store=store, kind=_EPISODES[of][0])
        except Violation as error:
            broken.append(f"seed {seed}: {error}")
    assert broken == []
