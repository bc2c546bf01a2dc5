"""A full disk, the controller's or the machine's, for two minutes of policy time: things wait, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.disk import Ballast, small_disk
from tests.system.world import World, world

_LINES = 300_000
_PRINTED = b"".join(b"%d\n" % n for n in range(1, _LINES + 1))
_FULL_S = 6.0
_SIZE = 48 * 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    with small_disk(folder, _SIZE) as mounted:
        if not mounted:
            pytest.skip("this machine lets nobody mount a small file system")
        yield folder


def stay_full(ballast: Ballast, seconds: float) -> None:
    """Whatever is freed meanwhile is taken again."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        ballast.fill()
        time.sleep(0.05)


def printing(w: World) -> str:
    """A job that prints the whole time and a file that says the same."""
    script = f"seq {_LINES} > all.txt; split -n l/60 all.txt part.; for p in part.*; do cat $p; sleep 0.1; done"
    job = w.submit("--no-workdir", "--output", "all.txt", "--", "sh", "-c", script)
    w.until(lambda: w.run("logs", job).stdout[:2] == b"1\n", 30, "the first line")
    return job


def machines_at(w: World, folder: Path) -> None:
    w.home.mkdir(mode=0o700)
    (w.home / "settings.yaml").write_text(f"local: {{machines: {folder}}}\n")


def prints_on_a_full(disk: Path, w: World, target: Path) -> str:
    """The job, which came to its whole end although the disk was full for a while."""
    job, ballast = printing(w), Ballast(disk)
    stay_full(ballast, _FULL_S)
    ballast.drop()
    whole(w, job, target)
    return job


def whole(w: World, job: str, target: Path) -> None:
    done = w.wait_done(job)
    assert (done["outcome"], done["attempts"]) == ("succeeded", 1), (done["attempts_list"], w.log())
    assert w.run("logs", job).stdout == _PRINTED
    w.run("pull", job, str(target))
    assert (target / "all.txt").read_bytes() == _PRINTED
    w.nothing_left()


@pytest.mark.system
def test_the_controllers_disk(disk: Path, tmp_path: Path) -> None:
    """Its database, logs and objects; machines have room."""
    with world(disk) as w:
        machines_at(w, tmp_path / "machines")
        prints_on_a_full(disk, w, tmp_path / "pulled")


def test_the_machines_disk(disk: Path, tmp_path: Path) -> None:
    """The job waits, and the event says for what."""
    with world(tmp_path) as w:
        machines_at(w, disk / "machines")
        job = prints_on_a_full(disk, w, tmp_path / "pulled")
        said = [(one["what"], one["message"]) for one in w.json("events", "--job", job)]
        assert ("attempt.waits", "its machine's disk is full") in said
        assert ("attempt.goes_on", "") in said


@pytest.mark.system
def test_both_at_once(disk: Path, tmp_path: Path) -> None:
    with world(disk) as w:
        prints_on_a_full(disk, w, tmp_path / "pulled")


def test_a_machine_for_which_there_is_no_room(disk: Path, tmp_path: Path) -> None:
    """It cannot be made; the job waits, and runs once there is."""
    with world(tmp_path) as w:
        machines_at(w, disk / "machines")
        ballast = Ballast(disk)
        ballast.fill()
        job = w.submit("--no-workdir", "--", "echo", "made")
        stay_full(ballast, 2.0)
        assert w.job(job)["phase"] != "done"
        ballast.drop()
        done = w.wait_done(job)
        assert done["outcome"] == "succeeded", (done["reason"], w.log())
        assert w.run("logs", job).stdout == b"made\n"
        w.nothing_left()


def test_no_space_is_said_in_one_line_and_nothing_is_lost(disk: Path, tmp_path: Path) -> None:
    """Where a job is submitted, where its workspace goes, where results are pulled to, where a home would be made."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "data").write_bytes(bytes(3 * 2**20))
    with world(disk) as w, world(disk / "new") as other:
        job = w.submit("--no-workdir", "--output", "big", "--", "sh", "-c", "head -c 5000000 /dev/zero > big")
        w.wait_done(job)
        ballast = Ballast(disk)
        ballast.fill()
        refusals = [
            (w, 4, "disk is full", ("run", "--no-workdir", "--", "true")),
            (
                w,
                4,
                "No space left on device; free some space; nothing was stored",
                ("run", "--workdir", str(work), "--", "x"),
            ),
            (w, 1, "No space left on device; what was fetched is kept; pull again", ("pull", job, str(disk / "out"))),
            (other, 4, "there is no space left on the disk", ("ps",)),
        ]
        for asked, code, said, words in refusals:
            ballast.fill()
            done = asked.run(*words, check=False)
            assert done.returncode == code, (words, done.stderr)
            assert said in done.stderr.decode().splitlines()[-1]
        ballast.drop()
        assert [one["id"] for one in w.json("ps", "-a")] == [job]
        w.run("pull", job, str(disk / "out"))
        assert (disk / "out/big").read_bytes() == bytes(5_000_000)
        assert other.json("ps", "-a") == []
