"""Whole episodes over the simulated cloud, with its own clock.

Crashes between any two effects, lost answers, late and partial listings, throttling, no capacity, preemption, clock
steps, a controller that sleeps for hours. What must be true when everything has come to rest (invariants 1 to 6) is
checked by the episode itself.
"""

from __future__ import annotations

import pytest

from tests.fakes.episode import episode

IN_TEST, IN_SOAK = 48, 10_000


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(IN_TEST))
def test_an_episode_leaves_nothing_wrong_behind(seed: int) -> None:
    tally = episode(seed)
    assert tally.jobs == tally.outcomes.total()


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_ten_thousand_episodes() -> None:
    launched = crashes = 0
    for seed in range(IN_TEST, IN_TEST + IN_SOAK):
        tally = episode(seed)
        launched += tally.launched
        crashes += tally.crashes
    print(f"{IN_SOAK} episodes: {launched} machines launched, {crashes} crashes, nothing leaked")
    assert crashes > IN_SOAK
