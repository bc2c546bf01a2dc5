"""The respawn loop with a stand-in for the agent: restarts, ends, reaps, and lets nothing outlive the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import workload

from .supervised import until

TOP = Path(__file__).parents[3]
IMPORT = f"import sys; sys.path.insert(0, {str(TOP)!r}); from agent import respawn, workload\n"
LOOP = IMPORT + "sys.exit(respawn.main(sys.argv[2], ['/bin/sh', sys.argv[2] + '/agent.sh']))"
Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"name": f"loop-{os.getpid()}-{tmp_path.name}"}))
    return tmp_path


@pytest.fixture
def start(state: Path) -> Iterator[Start]:
    """`start(script)`: a loop whose agent is that shell script, called with `run STATE`."""
    children: list[subprocess.Popen[bytes]] = []

    def begin(script: str) -> subprocess.Popen[bytes]:
        (state / "agent.sh").write_text(script)
        words = [sys.executable, "-I", "-c", LOOP, "respawn", str(state)]
        bare = {key: value for key, value in os.environ.items() if key != workload.MACHINE}
        children.append(subprocess.Popen(words, cwd=state, env=bare, stderr=(state / "said").open("wb")))
        return children[-1]

    yield begin
    for child in children:
        below = workload.descendants({child.pid})
        child.kill()
        child.wait()
        workload.signal_all(below, signal.SIGKILL)


def test_an_agent_that_fails_is_started_again_until_it_is_done(state: Path, start: Start) -> None:
    child = start('echo "$1 $2" >> runs; [ $(wc -l < runs) -ge 4 ] && exit 0; kill -9 $$')
    assert child.wait(30) == 0
    assert (state / "runs").read_text() == f"run {state}\n" * 4
    assert [line.split("again in ")[1] for line in (state / "said").read_text().splitlines()] == [
        "0.1 s",
        "0.2 s",
        "0.4 s",
    ]


def test_at_the_end_everything_below_is_killed_and_reaped(state: Path, start: Start) -> None:
    child = start("(setsid sleep 600 &); (trap '' TERM; env -i setsid sleep 600 &); touch up; sleep 0.3; exit 0")
    until(lambda: (state / "up").exists())
    left = workload.descendants({child.pid})
    assert child.wait(30) == 0
    assert [pid for pid in left if workload.process(pid)] == []


def test_orphans_are_reaped_while_the_agent_runs(state: Path, start: Start) -> None:
    child = start("(sh -c 'sleep 0.1 & echo $! > orphan' &); while [ ! -e stop ]; do sleep 0.05; done")
    until(lambda: (state / "orphan").exists() and (state / "orphan").read_text().strip())
    until(lambda: workload.process(int((state / "orphan").read_text())) is None)
    (state / "stop").touch()
    assert child.wait(30) == 0


def test_a_request_to_end_is_passed_on_and_supervisors_are_left_alone(state: Path, start: Start) -> None:
    child = start(
        "(setsid sleep 600 & echo $! > other); trap 'touch asked; exit 143' TERM; touch up\n"
        "while :; do sleep 0.05; done"
    )
    until(lambda: (state / "up").exists())
    other = int((state / "other").read_text())
    try:
        child.terminate()
        assert child.wait(30) == 143
        assert (state / "asked").exists()
        assert workload.process(other) is not None
    finally:
        os.kill(other, signal.SIGKILL)


def test_a_request_to_end_between_two_agents_ends_it(state: Path, start: Start) -> None:
    child = start("echo x >> runs; exit 1")
    until(lambda: "again in 0.8 s" in (state / "said").read_text())
    child.terminate()
    assert child.wait(5) == 143


def test_everything_below_carries_the_machines_name(state: Path, start: Start) -> None:
    name = json.loads((state / "config.json").read_text())["name"]
    assert start('echo "$RUNNER_INSTANCE" > name').wait(30) == 0
    assert (state / "name").read_text() == f"{name}\n"


def test_strays_that_wiped_their_environment_are_found_below_the_loop(state: Path, start: Start) -> None:
    """The agent here kills an attempt; what carries no marker, and is no supervisor's, is ended with it."""
    find = IMPORT + (
        "left = workload.kill_attempt('j/1')\n"
        "here = [workload.process(int(open(name).read())) for name in ('stray', 'kept')]\n"
        "print(left, [bool(one and not one.zombie) for one in here])"
    )
    (state / "find.py").write_text(find)
    child = start(
        "(env -i setsid sleep 600 & echo $! > stray)\n"
        f"(setsid {sys.executable} -I -c 'import time; time.sleep(600)' supervise dir & echo $! > kept)\n"
        f"sleep 0.3; exec {sys.executable} find.py > found"
    )
    assert child.wait(30) == 0
    assert (state / "found").read_text() == "True [False, True]\n"
