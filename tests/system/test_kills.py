"""Kill -9 anything at any moment: the outcome is the one that no kill would have reached, and nothing is left.

Twelve seeded moments here; two hundred in the soak tier.
"""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest

from tests.system.world import World, world

STEPS, PAUSE_S = 25, 0.08
VICTIMS = (
    ("controller",),
    ("agent",),
    ("supervisor",),
    ("controller", "agent"),
    ("controller", "agent", "supervisor"),
    ("controller", "respawn", "agent", "supervisor"),
)


def kill_at(seed: int, folder: Path) -> None:
    """One episode: submit, wait a seeded while, kill, and see it through."""
    chance = random.Random(seed)
    victims = VICTIMS[seed % len(VICTIMS)]
    with world(folder) as w:
        work = folder / "work"
        work.mkdir()
        (work / "steps.py").write_text(Path(__file__).with_name("steps.py").read_text())
        job = w.submit(
            *("--output", "result.txt", "--checkpoint", "ckpt:1s", "--workdir", str(work)),
            *("--", "python3", "steps.py", str(STEPS), str(PAUSE_S)),
        )
        time.sleep(chance.uniform(0.0, STEPS * PAUSE_S + 0.5))
        w.kill(*victims)
        done = w.wait_done(job)
        assert done["outcome"] == "succeeded", done
        check_log(w, job, done)
        check_results(w, job, folder / "pulled")
        w.nothing_left()


def check_log(w: World, job: str, done: dict[str, object], count: int = STEPS) -> None:
    """Each attempt's lines stand in order without a gap; the last attempt's go on to the end."""
    last = 0
    for number in range(1, int(str(done["attempts"])) + 1):
        text = w.run("logs", job, "--attempt", str(number)).stdout.decode()
        steps = [int(s) for a, s in re.findall(r"^attempt (\d+) step (\d+) x{100}$", text, re.M) if int(a) == number]
        assert steps == list(range(steps[0], steps[0] + len(steps))) if steps else True, text
        last = steps[-1] if steps else last
    assert last == count - 1


def check_results(w: World, job: str, target: Path, count: int = STEPS) -> None:
    w.run("pull", job, str(target))
    assert (target / "result.txt").read_text().split() == [str(n) for n in range(count)]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_killed_comes_to_the_same_end(seed: int, tmp_path: Path) -> None:
    kill_at(seed, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(1000, 1200))
def test_what_is_killed_comes_to_the_same_end_two_hundred_times(seed: int, tmp_path: Path) -> None:
    kill_at(seed, tmp_path)
