"""Ten thousand episodes of commands, as many of CI runners, and as many of pools. `SOAK_FIRST` chooses others."""

from __future__ import annotations

import os

import pytest

from tests.fakes.ci_episode import CiEpisode
from tests.fakes.episode import Episode, episode
from tests.fakes.pool_episode import PoolEpisode
from tests.fakes.simstore import SimStore
from tests.fakes.simulation import Violation

_FIRST = int(os.environ.get("SOAK_FIRST", "100000"))
_EPISODES = 10_000
_AT_A_TIME = 250


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [Episode, CiEpisode, PoolEpisode], ids=["commands", "ci-runners", "pools"])
@pytest.mark.parametrize("first", range(_FIRST, _FIRST + _EPISODES, _AT_A_TIME))
def test_the_invariants_hold_in_ten_thousand_episodes(first: int, kind: type[Episode]) -> None:
    store, broken = SimStore(), []
    for seed in range(first, first + _AT_A_TIME):
        try:
            episode(seed, store=store, kind=kind)
        except Violation as error:
            broken.append(f"seed {seed}: {error}")
    assert broken == []
