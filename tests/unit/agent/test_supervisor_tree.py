"""Everything that a job starts ends with it, with the time to do so that it was promised, and output comes whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import workload
from provisioner.bootstrap.bundle import packed

from .supervised import Place, place, until


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "agent.pyz").write_bytes(packed())
    with place(tmp_path, [sys.executable, "-I", str(tmp_path / "agent.pyz")]) as made:
        yield made


SLOW_TO_SAVE = (
    "import os, signal, sys, time\n"
    "def save(*_):\n    time.sleep(0.6); os.write(1, b'saved\\n'); sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, save); os.write(1, b'on\\n')\nwhile True: time.sleep(1)"
)


@pytest.mark.parametrize("how", ["control", "signal", "timeout"])
def test_the_grace_is_the_childrens_too_when_their_shell_dies_first(here: Place, how: str) -> None:
    (here.state.parent / "save.py").write_text(SLOW_TO_SAVE)
    timeout_s = 3.0 if how == "timeout" else None
    one = here.attempt(f"{sys.executable} {here.state.parent}/save.py; true", timeout_s=timeout_s, grace_s=15.0)
    one.start().until_log(b"on")
    if how == "control":
        one.control("kindly")
    if how == "signal":
        os.kill(one.pid, signal.SIGTERM)
    ended = one.ended()
    assert ended["why"] == ("timeout" if how == "timeout" else "cancelled")
    assert ended["exit_code"] == (124 if how == "timeout" else 130)
    assert one.data == b"on\nsaved\n"
    assert one.living() == []


def test_a_child_that_left_the_group_is_asked_kindly_too(here: Place) -> None:
    (here.state.parent / "save.py").write_text(SLOW_TO_SAVE)
    one = here.attempt(f"setsid {sys.executable} {here.state.parent}/save.py & sleep 600", grace_s=15.0)
    one.start().until_log(b"on")
    one.control("kindly")
    assert one.ended()["why"] == "cancelled"
    assert one.data == b"on\nsaved\n"


def test_now_is_at_once_also_when_kindly_came_before(here: Place) -> None:
    one = here.attempt("trap '' TERM; echo on; while :; do sleep 0.05; done", grace_s=600.0)
    one.start().until_log(b"on")
    one.control("kindly")
    one.control("now")
    began = time.monotonic()
    assert one.ended()["exit_code"] == 130
    assert time.monotonic() - began < 10


def test_what_ended_by_itself_is_not_cancelled_afterwards(here: Place) -> None:
    one = here.attempt("(trap '' TERM; sleep 600) & echo on; sleep 0.2; exit 5").start()
    one.until_log(b"on")
    until(lambda: "run_s" in (one.folder / "state.json").read_text() or workload.descendants({one.pid}))
    time_out = time.monotonic() + 0.5
    until(lambda: time.monotonic() > time_out)
    one.control("kindly")
    ended = one.ended()
    assert (ended["exit_code"], ended["why"]) == (5, "")
    assert one.living() == []


def test_a_daemon_that_holds_the_pipe_does_not_hold_the_end(here: Place) -> None:
    began = time.monotonic()
    ended, one = here.run(
        "(setsid sh -c 'trap \"\" TERM; echo held; while :; do sleep 1; done' &); sleep 0.3; echo last"
    )
    assert (ended["exit_code"], sorted(one.data.split())) == (0, [b"held", b"last"])
    assert time.monotonic() - began < 15
    assert one.living() == []


def test_a_fork_storm_is_ended(here: Place) -> None:
    storm = (
        "import os, time\nend = time.monotonic() + 60\n"
        "while time.monotonic() < end:\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork(): os._exit(0)\n"
        "        time.sleep(0.05); os.fork() and os._exit(0); time.sleep(0.05); os._exit(0)\n"
        "    time.sleep(0.002)\n"
    )
    one = here.attempt([sys.executable, "-c", "print('on', flush=True)\n" + storm]).start()
    one.until_log(b"on")
    one.control("now")
    assert one.ended()["why"] == "cancelled"
    assert one.living() == []


def test_what_setup_left_running_serves_the_command_and_ends_with_it(here: Place) -> None:
    setup = "(setsid sh -c 'while :; do echo beat > beat; sleep 0.05; done' &); echo set up"
    run = "rm -f beat; while [ ! -e beat ]; do sleep 0.02; done; echo served"
    ended, one = here.run(run, setup=setup, shell_env={"VIRTUAL_ENV": "/nowhere", "PATH": os.environ["PATH"]})
    assert (ended["exit_code"], one.data) == (0, b"set up\nserved\n")
    assert set(ended["timings"]) == {"setup_s", "run_s"}
    assert one.living() == []


def test_the_environment_that_setup_fills_is_kept_for_the_same_setup(here: Place) -> None:
    setup = '[ -e "$VIRTUAL_ENV/mark" ] && echo again || echo first; touch "$VIRTUAL_ENV/mark"; touch there'
    run = 'test -e there && [ "$(command -v python)" = "$VIRTUAL_ENV/bin/python" ] && echo inside'
    shell = {"PATH": os.environ["PATH"]}
    first, one = here.run(run, setup=setup, shell_env=shell)
    _, two = here.run(run, setup=setup, shell_env=shell)
    assert first["exit_code"] == 0, bytes(one.data)
    assert one.data.endswith(b"first\ninside\n")
    assert two.data == b"again\ninside\n"


@pytest.mark.system
def test_an_environment_whose_setup_failed_is_made_anew(here: Place) -> None:
    setup = '[ -e "$VIRTUAL_ENV/half" ] && echo half-made; touch "$VIRTUAL_ENV/half"; exit 3'
    for _ in range(2):
        ended, one = here.run("echo never", setup=setup, shell_env={"PATH": os.environ["PATH"]})
        assert (ended["exit_code"], ended["why"]) == (3, "setup-failed")
        assert b"half-made" not in one.data
        assert b"never" not in one.data


def test_a_line_of_50_mb_and_a_secret_on_every_border_come_whole(here: Place) -> None:
    (here.state.parent / "w.py").write_text(
        "import os, sys\nv = b'x' * 65529 + os.environb[b'S'][:7]\nfor _ in range(800): os.write(1, v)\n"
        "s = os.environb[b'S']\nfor i in range(1, len(s)): os.write(1, s[:i]); os.write(2, s); os.write(1, s[i:])\n"
    )
    ended, one = here.run([sys.executable, str(here.state.parent / "w.py")], secrets={"S": "correct-horse"})
    assert ended["exit_code"] == 0
    assert one.stream(1) == (b"x" * 65529 + b"correct") * 800 + b"***" * 12
    assert one.stream(2) == b"***" * 12


def test_raw_bytes_are_not_touched_and_a_terminal_has_a_size(here: Place) -> None:
    raw = b"\r 10%\r 20%\x1b[31mred\x1b[0m\xff\xfe\x00\n"
    _, one = here.run([sys.executable, "-c", f"import os; os.write(1, {raw!r})"])
    assert one.data == raw
    _, two = here.run("stty size; tput cols 2>/dev/null >/dev/null; [ -t 0 ] && [ -t 2 ] && echo $TERM", tty=True)
    assert two.data == b"24 80\r\nxterm-256color\r\n"


def test_a_line_is_spooled_while_its_writer_waits(here: Place) -> None:
    late = "import os, time\nfor _ in range(60): os.write(1, b'%.6f\\n' % time.time()); time.sleep(0.01)"
    _, one = here.run([sys.executable, "-c", late])
    lateness = sorted(when - float(one.data[at : at + 17]) for at, _, _, when in one.spans)
    assert len(lateness) == 60
    assert lateness[30] < 0.02  # typically 0.3 ms; a busy machine has its own


@pytest.mark.parametrize(
    ("run", "code", "said"),
    [
        (["./nothing-here"], 127, "command not found: ./nothing-here"),
        (["./bad"], 126, "cannot execute ./bad: the interpreter that its first line names was not found"),
        (["a\0b"], 126, "cannot execute a\0b: embedded null byte"),
        ([], 126, "cannot execute : list index out of range"),
    ],
)
def test_what_cannot_begin_is_said_in_one_line(here: Place, run: list[str], code: int, said: str) -> None:
    one = here.attempt(run)
    (one.workspace / "bad").write_text("#!/no/such/interpreter\n")
    (one.workspace / "bad").chmod(0o755)
    assert one.start().ended()["exit_code"] == code
    assert one.stream(2).decode() == f"runner: {said}\n"


def test_a_supervisor_is_small(here: Place) -> None:
    one = here.attempt("echo on; sleep 600", secrets={"S": "correct-horse"}).start()
    one.until_log(b"on")
    rss_kib = int(Path(f"/proc/{one.pid}/status").read_text().split("VmRSS:")[1].split()[0])
    one.control("now")
    one.ended()
    assert rss_kib <= 25 * 1024


def test_nothing_is_left_after_a_supervisor_is_killed_at_any_moment(here: Place) -> None:
    for pause_s in (0.0, 0.02, 0.05, 0.1, 0.3):
        one = here.attempt("(setsid nohup sleep 600 &) ; (sleep 600 &) ; sleep 600").start()
        deadline = time.monotonic() + pause_s
        until(lambda deadline=deadline: time.monotonic() >= deadline)
        os.kill(one.pid, signal.SIGKILL)
        os.waitpid(one.pid, 0)
        assert workload.kill_attempt(one.key)
        assert workload.marked(one.key) == []


def test_only_this_machines_processes_are_an_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    key = f"twin-{os.getpid()}/1"
    twins = [
        subprocess.Popen(
            ["sleep", "600"], env={workload.MARKER: key, workload.MACHINE: machine, "PATH": "/usr/bin:/bin"}
        )
        for machine in ("ours", "theirs")
    ]
    try:
        monkeypatch.delenv(workload.MACHINE)
        until(lambda: len(workload.marked(key)) == 2)
        monkeypatch.setenv(workload.MACHINE, "ours")
        assert workload.marked(key) == [twins[0].pid]
    finally:
        for twin in twins:
            twin.kill()
            twin.wait()


def test_an_idle_supervisor_sleeps_and_is_woken_by_a_word(here: Place) -> None:
    one = here.attempt("echo on; exec sleep 600").start()
    one.until_log(b"on")

    def naps() -> int:
        return int(Path(f"/proc/{one.pid}/status").read_text().split("voluntary_ctxt_switches:")[1].split()[0])

    before, deadline = naps(), time.monotonic() + 2
    until(lambda: time.monotonic() >= deadline)
    assert naps() - before < 30
    one.control("now")
    assert one.ended()["exit_code"] == 130
