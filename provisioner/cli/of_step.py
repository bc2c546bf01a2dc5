"""A controller of a CI step's own, for a launch without RUNNER_SERVER: it comes and goes with the command.

Its home, database and id are thrown away with it. It is held by a pipe: once the command says `release` there, all of
its machines look after themselves; a pipe that closes without a word has it take everything back first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from provisioner.domain.handing import unfit

from . import embedded, render
from .client import Client
from .failures import OURS, CliError, Unreachable

_READY_S = 15.0
_POLL_S = 0.02
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
        self._process = self._spawned()
        deadline = time.monotonic() + _READY_S
        while not embedded.answers(self.client):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Unreachable("the step's own controller did not start", embedded.said(self._home, 0))
            time.sleep(_POLL_S)

    def again(self, client: Client) -> None:
        """After an answer was lost: the same one, or the next over the same database."""
        client.close()
        if self._process is None or self._process.poll() is not None:
            self.start()
        elif not embedded.answers(client):
            raise Unreachable("the step's own controller does not answer", embedded.said(self._home, 0))

    def hand_over(self, jobs: Sequence[str], until_s: float) -> list[dict[str, Any]]:
        """Of each machine what it was left with, once all have acknowledged. Raises: CliError."""
        deadline = max(until_s, time.monotonic() + _ACKNOWLEDGED_S)
        while True:
            try:
                told = [self.client.post(f"/jobs/{job_id}/hand-over") for job_id in jobs]
            except Unreachable:
                self.again(self.client)
                continue
            if all(one["state"] in ("alone", "over") for one in told):
                return [one for one in told if one["state"] == "alone"]
            if time.monotonic() >= deadline:
                late = next(one["job_id"] for one in told if one["state"] not in ("alone", "over"))
                raise CliError(f"{late}: its machine did not acknowledge that it is on its own", code=OURS)
            time.sleep(_ASK_S)

    def release(self) -> None:
        """All of its machines look after themselves: from here on none of them is taken back."""
        self._released = True

    def leave(self) -> None:
        """It ends, and its home with it; what was not released is taken back by then, or soon after."""
        if (process := self._process) is not None:
            assert process.stdin is not None
            with contextlib.suppress(OSError), process.stdin:
                process.stdin.write(b"release" if self._released else b"")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LEAVE_S if self._released else _BACK_S)
            if process.poll() is None:
                process.returncode = 0  # it is not ours to wait for, and takes its home with it
                render.say("runner: the step's own controller goes on until it has nothing to look after")
                return
        shutil.rmtree(self._home, ignore_errors=True)

    def _spawned(self) -> subprocess.Popen[bytes]:
        given = {name: value for name, value in os.environ.items() if name not in _OWN}
        words = ["serve", "--embedded", "--home", str(self._home), "--step-of", str(self._lasting)]
        with (self._home / "controller.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "provisioner", *words],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=embedded.clean_environment(given),
                cwd=self._home,
                start_new_session=True,
            )


@contextlib.contextmanager
def controller() -> Iterator[StepController]:
    """Its home is gone when it has ended."""
    made = StepController(embedded.home())
    try:
        made.start()
        yield made
    finally:
        made.leave()


def lines(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence each: what it may cost at most, and when it ends by itself."""
    return [f"{one['runner']} looks after itself now: {bound(one)}" for one in told]


def bound(one: Mapping[str, Any]) -> str:
    hours = f"{float(one['lifetime_s']) / 3600:.4g} h"
    until = f"{str(one['ends_at'])[:19].replace('T', ' ')} UTC"
    if one["at_most_usd"] is None:
        return f"its price is unknown; it ends by itself within {hours} of its launch, by {until}"
    price = f"${float(one['usd_per_hour']):.4g}/h for {hours}"
    return f"at most ${one['at_most_usd']} ({price}); it ends by itself by {until}"


def summarize(path: Path, told: Sequence[Mapping[str, Any]]) -> None:
    """Into the summary that the forge shows with the step. Raises: CliError."""
    rows = [f"| `{one['runner']}` | {one['offer']} | {bound(one)} |" for one in told]
    text = "\n".join(("", "| runner | machine | upper bound |", "|---|---|---|", *rows, ""))
    try:
        with path.open("a") as file:
            file.write(text)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}", "the runners are up", OURS) from error
