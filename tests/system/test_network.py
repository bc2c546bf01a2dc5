"""A bad network between machines and controller: nothing that was acknowledged is lost, and no job ends wrongly.

One minute of policy time in the `test` tier, an hour in the `system` tier, both at a twentieth of the real constants.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.network import Network, Weather, network
from tests.fakes.ports import free_port
from tests.system.served import served
from tests.system.test_kills import check_log, check_results
from tests.system.world import World, world

STEPS = 40
_SCALE = 0.05
_SILENCE_S = 180.0 * _SCALE
_AT_ONCE = 2


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/steps.py").write_text(Path(__file__).with_name("steps.py").read_text())
    with world(tmp_path, scale=str(_SCALE)) as made:
        yield made


def submit(w: World) -> str:
    return w.submit(
        *("--output", "result.txt", "--checkpoint", "ckpt:1s", "--workdir", str(w.home.parent / "work")),
        *("--", "python3", "steps.py", str(STEPS), "0.1"),
    )


def live(w: World, jobs: list[str]) -> int:
    return sum(one["id"] in jobs for one in w.json("ps"))


def through(w: World, seconds: float, seed: int) -> tuple[list[str], int]:
    """Jobs without end while the weather changes; what was submitted, and how many bytes passed."""
    chance, jobs, port = random.Random(seed), list[str](), free_port()
    with network(port) as net:
        with served(w, port=port):
            net.take_over(w.home / "agents.sock")
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at:
                while live(w, jobs) < _AT_ONCE:
                    jobs.append(submit(w))
                _blow(net, chance)
            net.weather = Weather.FAIR
            for job in jobs:
                w.wait_done(job)
            w.nothing_left()
            for job in jobs:
                done = w.job(job)
                reasons = [one["reason"] for one in done["attempts_list"]]
                assert done["outcome"] == "succeeded", (reasons, w.log())
                check_log(w, job, done, STEPS)
                check_results(w, job, w.home.parent / f"pulled-{job}", STEPS)
        return jobs, net.passed


def _blow(net: Network, chance: random.Random) -> None:
    """Some weather, as often as not long enough to be taken for death, then a moment of sun."""
    net.weather = chance.choice([Weather.CUT, Weather.BLACK, Weather.SLOW])
    time.sleep(chance.uniform(0.2, _SILENCE_S * 1.3))
    net.weather = Weather.FAIR
    time.sleep(chance.uniform(0.5, _SILENCE_S / 2))


@pytest.mark.system
@pytest.mark.timeout(180)
def test_a_bad_minute(w: World) -> None:
    jobs, passed = through(w, 3.0, 1)
    assert len(jobs) >= _AT_ONCE
    assert passed > 0


@pytest.mark.system
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2))
def test_a_bad_hour(w: World, seed: int) -> None:
    jobs, _ = through(w, 3600 * _SCALE, seed)
    assert len(jobs) > 4 * _AT_ONCE


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "weather",
    [Weather.CUT, pytest.param(Weather.BLACK, marks=pytest.mark.system)],
    ids=lambda one: one.name.lower(),
)
def test_a_cut_shorter_than_silence_costs_no_attempt(w: World, weather: Weather) -> None:
    port = free_port()
    with network(port) as net, served(w, port=port):
        net.take_over(w.home / "agents.sock")
        job = submit(w)
        w.until(lambda: w.job(job)["phase"] == "running", 30, "it to run")
        net.weather = weather
        time.sleep(_SILENCE_S / 3)
        net.weather = Weather.FAIR
        done = w.wait_done(job)
        assert (done["outcome"], done["attempts"]) == ("succeeded", 1), (done["attempts_list"], w.log())
        check_log(w, job, done, STEPS)
        check_results(w, job, w.home.parent / "pulled", STEPS)
        w.nothing_left()
