"""Runners of forges over random episodes: none left behind, no CI job killed; and what each protection is there for."""

from __future__ import annotations

import pytest

from tests.fakes.ci_episode import CI_PROTECTIONS, LOSS_STRESS, CiEpisode, LossEpisode
from tests.fakes.episode import Protection, episode
from tests.fakes.simstore import SimStore
from tests.fakes.simulation import Violation

_EPISODES = 30
_AT_A_TIME = 10
_LOSSES = (1, 4, 8)  # seeds: in most others no machine is lost at work


@pytest.fixture(scope="module")
def store() -> SimStore:
    return SimStore()


@pytest.mark.parametrize("first", range(0, _EPISODES, _AT_A_TIME))
def test_no_runner_is_left_and_no_ci_job_killed(first: int, store: SimStore) -> None:
    for seed in range(first, first + _AT_A_TIME):
        try:
            episode(seed, store=store, kind=CiEpisode)
        except Violation as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_what_machines_cut_short_is_run_again_or_it_is_said_why_not(store: SimStore) -> None:
    reruns = 0
    for seed in _LOSSES:
        try:
            reruns += episode(seed, stress=LOSS_STRESS, store=store, kind=LossEpisode).outcomes["rerun-asked"]
        except Violation as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert reruns >= 2


@pytest.mark.parametrize(
    ("kind", "protection"),
    [(kind, protection) for kind, protections in CI_PROTECTIONS.items() for protection in protections],
    ids=lambda given: getattr(given, "name", ""),
)
def test_without_this_protection_an_invariant_breaks(
    kind: type[CiEpisode], protection: Protection, store: SimStore
) -> None:
    with pytest.raises(Violation) as found:
        episode(protection.seed, off=protection.name, stress=protection.stress, store=store, kind=kind)
    assert found.value.invariant == protection.breaks
    episode(protection.seed, stress=protection.stress, store=store, kind=kind)
