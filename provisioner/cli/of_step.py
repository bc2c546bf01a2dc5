"""A controller of a CI step's own, for a launch without RUNNER_SERVER: it comes and goes with the command.

Its home, database and id are thrown away with it. It is held by a pipe: once the command says `release` there, all of
its machines look after themselves; a pipe that closes without a word has it take everything back first.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from provisioner.domain.handing import unfit

from . import embedded, render
from .client import Client
from .failures import OURS, CliError
from .outlast import outlast

_ASK_S = 0.2
_ACKNOWLEDGED_S = 60.0  # arbitrary: an agent that is online hears within a poll
_LEAVE_S = 60.0  # arbitrary: doors are shut, and machines that are not needed end
_BACK_S = 4.0  # a cancelled step has less than ten seconds; the controller goes on without it
_OWN = ("RUNNER_SECRET_KEY", "RUNNER_STORE_URL", "RUNNER_OBJECTS_URL")
_NEEDS = "it needs RUNNER_SERVER"
NOTHING_TO_CANCEL = (
    "runner: nothing to cancel: without RUNNER_SERVER a launch that is cut short is taken back by its own controller, "
    "and what a killed one has left ends at its own limits"
)


def check(given: Mapping[str, Any], providers: Sequence[str]) -> None:
    """What a launch without a lasting controller cannot have. Raises: CliError (2)."""
    if given["jobs"] != "one":
        raise CliError("--jobs many: each job's runner is made by a controller that is there", _NEEDS)
    if given["detach"]:
        raise CliError("--detach: nobody would hand the machine over", _NEEDS)
    if given["pool"]:
        raise CliError("--pool: pools are those of a controller that is there", _NEEDS)
    if other := unfit(tuple(providers)):
        raise CliError(f"--provider {other}: its machines cannot be left to themselves", _NEEDS)


class StepController:
    """`client` talks to it from `start` on."""

    def __init__(self, lasting: Path) -> None:
        self._lasting = lasting
        self._home = Path(tempfile.mkdtemp(prefix="runner-step-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._released = False
        self.client = Client(f"unix:{self._home / 'control.sock'}")

    def start(self) -> None:
        """Raises: Unreachable."""
        embedded.begin(self.client, self._home, self._spawned)

    def _spawned(self) -> subprocess.Popen[bytes]:
        """Known from here on, whatever becomes of the waiting: its home is not ours to remove while it runs."""
        own = ("--step-of", str(self._lasting))
        self._process = embedded.spawn(self._home, own, _OWN, subprocess.PIPE)
        return self._process

    def again(self, client: Client) -> None:
        """After an answer was lost: the same one, or the next over the same database. Raises: Unreachable."""
        client.close()
        self.start()

    def hand_over(self, jobs: Sequence[str], until_s: float, rights: Callable[[Client], None]) -> list[dict[str, Any]]:
        """Of each machine what it was left with, once all have acknowledged. `rights` are given to a controller that
        was started anew. Raises: CliError."""
        deadline = max(until_s, time.monotonic() + _ACKNOWLEDGED_S)

        def asked() -> list[dict[str, Any]]:
            return [self.client.post(f"/jobs/{job_id}/hand-over") for job_id in jobs]

        while True:
            told = outlast(asked, lambda: self.again(self.client), lambda: rights(self.client), deadline)
            if all(one["state"] in ("alone", "over") for one in told):
                return [one for one in told if one["state"] == "alone"]
            if time.monotonic() >= deadline:
                late = next(one["job_id"] for one in told if one["state"] not in ("alone", "over"))
                raise CliError(f"{late}: its machine did not acknowledge that it is on its own", code=OURS)
            time.sleep(_ASK_S)

    def release(self) -> None:
        """All of its machines look after themselves: from here on none of them is taken back, whatever becomes of the
        command."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._released = True
        with contextlib.suppress(OSError):
            self._process.stdin.write(b"release")
            self._process.stdin.flush()

    def leave(self) -> None:
        """It ends, and its home with it; what was not released is taken back by then, or soon after."""
        if (process := self._process) is not None:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LEAVE_S if self._released else _BACK_S)
            if process.poll() is None:
                process.returncode = 0  # it is not ours to wait for, and takes its home with it
                render.say("runner: the step's own controller goes on until it has nothing to look after")
                return
        shutil.rmtree(self._home, ignore_errors=True)


@contextlib.contextmanager
def controller() -> Iterator[StepController]:
    """Its home is gone when it has ended."""
    made = StepController(embedded.home())
    try:
        made.start()
        yield made
    finally:
        made.leave()
