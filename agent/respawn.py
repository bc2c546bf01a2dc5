"""Where there is no init system: keeps the agent running, and is the outermost subreaper of the machine.

Whatever loses its parent on this machine ends up below this loop, so that ending the loop's tree ends the machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import List

from . import workload

_FIRST_S, _LONGEST_S, _FORGET_S = 0.1, 10.0, 60.0


def main(state: str, agent: List[str]) -> int:
    """Run `agent run STATE` until it exits 0; then end what is left and go."""
    workload.become_subreaper()
    pause_s = _FIRST_S
    while True:
        began = time.monotonic()
        child = subprocess.Popen([*agent, "run", state], stdin=subprocess.DEVNULL)
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        code = _wait(child.pid)
        child.returncode = code
        if code == 0 or not os.path.exists(os.path.join(state, "config.json")):
            break  # without its folder there is no machine any more
        if time.monotonic() - began > _FORGET_S:
            pause_s = _FIRST_S
        print(f"respawn: the agent ended with {code}; again in {pause_s:g} s", file=sys.stderr, flush=True)
        _reap_for(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_S)
    while True:
        left = workload.descendants({os.getpid()})
        if not left:
            return 0
        workload.signal_all(left, signal.SIGKILL)
        _reap_for(0.01)


def _wait(wanted: int) -> int:
    """Reap whatever ends until `wanted` does; its exit code."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == wanted:
            return os.waitstatus_to_exitcode(status)


def _reap_for(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pid = 0
        if pid == 0:
            if time.monotonic() >= deadline:
                return
            time.sleep(min(0.01, seconds))
