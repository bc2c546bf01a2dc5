"""An agent whose job says nothing sleeps, and misses nothing: the next line, the exit and a dead supervisor wake it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import wire
from agent.watch import Signals, Watch

from .machine import Box, box

_QUIET_S = 3.5  # longer than a log counts as lively
_SOON_S = 1.0  # well below what a sleeping agent looks after by itself


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Box]:
    with box(tmp_path) as made:
        yield made


@pytest.fixture
def signals(tmp_path: Path) -> Iterator[Signals]:
    """What a process has only once: put back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGIO, signal.SIGCHLD)}
    made = Signals(lambda: None)
    made.begin(str(tmp_path))
    yield made
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


def _until(found: object, limit_s: float = 5.0) -> None:
    deadline = time.monotonic() + limit_s
    while not found():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_line_after_a_long_silence_is_sent_at_once(machine: Box) -> None:
    c = machine.controller
    machine.start()
    script = f"import time\nfor _ in range(2):\n print(time.monotonic(), flush=True); time.sleep({_QUIET_S})\n"
    key = c.order(wire.Order("j1", 1, run=[sys.executable, "-c", script]))
    late = []
    for lines in (1, 2):
        c.until(lambda lines=lines: c.log(key).data.count(b"\n") >= lines)
        late.append(time.monotonic() - float(bytes(c.log(key).data).split()[lines - 1]))
    assert late[1] < _SOON_S
    ends_at = time.monotonic() + _QUIET_S
    assert c.ended(key).exit_code == 0
    assert time.monotonic() < ends_at + _SOON_S


def test_a_supervisor_that_dies_in_silence_is_missed(machine: Box) -> None:
    c = machine.controller
    machine.start()
    key = c.order(wire.Order("j1", 1, run="echo on; exec sleep 600"))
    c.until(lambda: c.log(key).data == b"on\n")
    time.sleep(_QUIET_S)
    (mark,) = [pid for pid in machine.pids() if b"supervise" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(mark, signal.SIGKILL)
    assert c.ended(key, _QUIET_S).why == "supervisor-lost"


@pytest.mark.parametrize("once", [True, False])
def test_a_watch_is_settled_until_something_changes(signals: Signals, tmp_path: Path, once: bool) -> None:
    if not signals.works:
        pytest.skip("this kernel does not tell of changes in folders")
    folder = tmp_path / "watched"
    folder.mkdir()
    watch = Watch(signals, once)
    assert not watch.settled([str(folder)])
    _until(lambda: watch.settled([str(folder)]))  # another test's child may have ended just now
    for number in range(3):
        before = signals.count
        (folder / "file").write_text(str(number))
        _until(lambda before=before: signals.count > before)
        assert not watch.settled([str(folder)])
        _until(lambda: watch.settled([str(folder)]))


def test_a_folder_that_is_gone_is_never_settled(signals: Signals, tmp_path: Path) -> None:
    watch = Watch(signals, once=True)
    assert not watch.settled([str(tmp_path / "none")])
    assert not watch.settled([str(tmp_path / "none")])
    _until(lambda: watch.settled([]))


def test_where_nothing_is_told_nothing_is_relied_on(tmp_path: Path) -> None:
    watch = Watch(Signals(lambda: None), once=True)
    assert not watch.settled([str(tmp_path)])
    assert not watch.settled([str(tmp_path)])
