"""Where there is no init system: keeps the agent running, and is the outermost subreaper of the machine.

Whatever loses its parent on this machine ends up below this loop, so that ending the loop's tree ends the machine.
Asked to end itself (SIGTERM), it passes that on and leaves with the agent; supervisors go on, as the next agent will.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from . import workload
from .files import read_json

_FIRST_S, _LONGEST_S, _FORGET_S = 0.1, 10.0, 60.0
_REAP_S = 0.01


def main(state: str, agent: list[str]) -> int:
    """Run `agent run STATE` until it exits 0; then end what is left and go. Else the agent's last exit code."""
    workload.become_subreaper()
    config = os.path.join(state, "config.json")
    name = (read_json(config) or {}).get("name")
    if name:
        os.environ.setdefault(workload.MACHINE, name)
    loop = Loop([*agent, "run", state])
    pause_s = _FIRST_S
    while True:
        began = time.monotonic()
        code = loop.once()
        if code == 0 or not os.path.exists(config):
            break  # without its folder there is no machine any more
        if loop.told:
            return code if code > 0 else 128 - code
        if time.monotonic() - began > _FORGET_S:
            pause_s = _FIRST_S
        print(f"respawn: the agent ended with {code}; again in {pause_s:g} s", file=sys.stderr, flush=True)
        loop.reap_for(pause_s)
        if loop.told:
            return 128 + signal.SIGTERM
        pause_s = min(pause_s * 2, _LONGEST_S)
    while left := workload.descendants({os.getpid()}):
        workload.signal_all(left, signal.SIGKILL)
        loop.reap_for(_REAP_S)
    return 0


class Loop:
    """One agent at a time. `told`: this loop was asked to end."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._agent = 0
        self.told = False
        signal.signal(signal.SIGTERM, self._on_term)

    def once(self) -> int:
        """Run the agent to its end, reaping whatever else ends meanwhile. Its exit code, negative for a signal."""
        child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        child.returncode = 0  # reaped below
        self._agent = child.pid
        if self.told:
            self._pass_on()
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == child.pid:
                self._agent = 0
                return os.waitstatus_to_exitcode(status)

    def reap_for(self, seconds: float) -> None:
        """Or until told to end."""
        deadline = time.monotonic() + seconds
        while not self.told:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pid = 0
            if pid == 0:
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                time.sleep(min(5 * _REAP_S, left))

    def _on_term(self, *_: object) -> None:
        self.told = True
        self._pass_on()

    def _pass_on(self) -> None:
        if self._agent:
            workload.signal_all([self._agent], signal.SIGTERM)
