"""Two controllers on one PostgreSQL and one object store: either may be killed; no attempt is run twice or given up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import postgres
from tests.system.pair import Pair, paired
from tests.system.test_kills import check_log, check_results
from tests.system.world import World

pytestmark = [
    pytest.mark.skipif(postgres.binaries() is None, reason="PostgreSQL is not installed"),
    pytest.mark.timeout(240),
]
_SILENT_S = 180.0 * 0.05 * 1.6  # past the time after which silence counts, at this scale


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/steps.py").write_text(Path(__file__).with_name("steps.py").read_text())
    with paired(tmp_path) as made:
        yield made


def submit(pair: Pair, world: World, steps: int, pause_s: float) -> str:
    return world.submit(
        *("--output", "result.txt", "--checkpoint", "ckpt:1s", "--workdir", str(pair.a.home.parent / "work")),
        *("--", "python3", "steps.py", str(steps), str(pause_s)),
    )


def ended_well(pair: Pair, world: World, job: str, steps: int, attempts: int = 1) -> None:
    done = world.wait_done(job)
    ended = [(one["number"], one["reason"]) for one in done["attempts_list"]]
    assert (done["outcome"], len(ended)) == ("succeeded", attempts), f"{ended}\n{pair.a.log()}\n{pair.b.log()}"
    check_log(world, job, done, steps)
    check_results(world, job, world.home.parent / f"pulled {job}", steps)


@pytest.mark.system
def test_what_an_agent_tells_one_controller_is_no_silence_for_the_other(pair: Pair) -> None:
    pair.ready()
    job = submit(pair, pair.a, 50, _SILENT_S / 50)
    ended_well(pair, pair.b, job, 50)
    pair.b.nothing_left()


@pytest.mark.system
@pytest.mark.parametrize("victim", ["launched", "other"])
def test_one_of_two_is_killed_and_its_jobs_go_on(pair: Pair, victim: str) -> None:
    pair.ready()
    jobs = [submit(pair, world, 60, 0.1) for world in (pair.a, pair.b)]
    for job in jobs:
        pair.a.until(lambda job=job: pair.a.job(job)["phase"] == "running", 30, "both to run")
    time.sleep(1.0)
    killed, left = (pair.a, pair.b) if victim == "launched" else (pair.b, pair.a)
    assert killed.kill("controller") == 1
    for job in jobs:
        ended_well(pair, left, job, 60)
    left.nothing_left()
    assert not killed.pids("controller")


@pytest.mark.system
def test_both_serve_one_queue(pair: Pair) -> None:
    """Many short jobs through both: each ran once, and nothing is left."""
    pair.ready()
    jobs = [world.submit("--no-workdir", "--", "true") for _ in range(6) for world in (pair.a, pair.b)]
    for job in jobs:
        done = pair.b.wait_done(job)
        assert (done["outcome"], done["attempts"]) == ("succeeded", 1)
    pair.a.nothing_left()
