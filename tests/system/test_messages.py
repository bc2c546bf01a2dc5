"""Messages twice, late, from a dead attempt, and answers lost: a real controller and a real agent, their order tampered
with in between."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.meddler import Meddler, meddling
from tests.fakes.network import network
from tests.fakes.ports import free_port
from tests.system.served import served
from tests.system.test_kills import check_log, check_results
from tests.system.world import World, world

STEPS = 30
_LATE_S = 6.0


@contextlib.contextmanager
def meddled(folder: Path, seed: int) -> Iterator[tuple[World, Meddler]]:
    (folder / "work").mkdir()
    (folder / "work/steps.py").write_text(Path(__file__).with_name("steps.py").read_text())
    port = free_port()
    meddled_with = meddling(port, seed, late_s=_LATE_S)
    with world(folder) as w, meddled_with as meddler, network(meddler.port) as net, served(w, port=port):
        net.take_over(w.home / "agents.sock")
        yield w, meddler


def submit(w: World, *words: str) -> str:
    return w.submit(
        *("--output", "result.txt", "--checkpoint", "ckpt:1s", "--workdir", str(w.home.parent / "work")),
        *(words or ("--", "python3", "steps.py", str(STEPS), "0.1")),
    )


def kept(w: World, job: str) -> tuple[object, ...]:
    """All that a message could change of a job that is over."""
    shown = w.job(job)
    logs = [w.run("logs", job, "--attempt", str(one["number"])).stdout for one in shown["attempts_list"]]
    ends = [(one["number"], one["phase"], one["reason"], one["exit_code"]) for one in shown["attempts_list"]]
    return shown["phase"], shown["outcome"], shown["exit_code"], shown["manifests"], ends, logs


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.system) for n in range(1, 10))])
def test_twice_late_and_without_an_answer(seed: int, tmp_path: Path) -> None:
    with meddled(tmp_path, seed) as (w, meddler):
        job = submit(w)
        done = w.wait_done(job)
        reasons = [one["reason"] for one in done["attempts_list"]]
        assert (done["outcome"], len(reasons)) == ("succeeded", 1), (reasons, w.log())
        assert min(meddler.done.values()) > 0, meddler.done
        check_log(w, job, done, STEPS)
        check_results(w, job, tmp_path / "pulled", STEPS)
        w.nothing_left()


@pytest.mark.system
@pytest.mark.timeout(180)
def test_everything_again_from_a_dead_attempt(tmp_path: Path) -> None:
    """Said again while the next attempt of the same job runs, and once more when all is over."""
    with meddled(tmp_path, 3) as (w, meddler):
        meddler.twice = meddler.lost = meddler.late = 0.0
        script = (
            "n=$RUNNER_ATTEMPT; echo attempt $n begins; echo $n > result.txt; sleep $((n * 2)); echo end; [ $n = 2 ]"
        )
        job = submit(w, "--retries", "1", "--", "sh", "-c", script)
        w.until(lambda: w.job(job)["attempts"] == 2 and w.job(job)["attempts_list"][1]["started_at"], 60, "the second")
        again = list(meddler.sent)
        kinds = ("sync", "log/", "grants", "manifest", "objects/results")
        assert [kind for kind in kinds if not any(kind in one.path for one in again)] == []
        for message in again:
            meddler.say(message)
        done = w.wait_done(job)
        assert (done["outcome"], done["attempts"]) == ("succeeded", 2), (done["attempts_list"], w.log())
        w.run("pull", job, str(tmp_path / "pulled"))
        assert (tmp_path / "pulled/result.txt").read_text() == "2\n"
        w.nothing_left()
        before = kept(w, job)
        assert before[-1] == [b"attempt 1 begins\nend\n", b"attempt 2 begins\nend\n"]
        answers = [meddler.say(message) for message in list(meddler.sent)]
        assert not any(answer.status >= 500 for answer in answers)
        assert kept(w, job) == before
        w.nothing_left()


@pytest.mark.timeout(120)
def test_the_answer_to_the_join_is_lost(tmp_path: Path) -> None:
    with meddled(tmp_path, 4) as (w, meddler):
        meddler.twice = meddler.lost = meddler.late = 0.0
        meddler.lose_next = "/join"
        job = submit(w)
        done = w.wait_done(job)
        assert (done["outcome"], done["attempts"]) == ("succeeded", 1)
        joins = [one for one in meddler.sent if one.path.endswith("/join")]
        assert len(joins) == 2
        assert joins[0].body == joins[1].body
        w.nothing_left()
