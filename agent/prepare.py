"""From an order to a running supervisor: workspace or the forge's program, inputs, checkpoint, start.

Everything is fetched through the cache and may be begun anew: until the supervisor's mark is on the disk nothing has
run. An order's secrets are in memory only; an agent that is killed before the start is ordered again. Who a runner is
to be is asked for at the very last, so that the forge knows of none that never comes.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, Optional, TypeVar
from urllib.parse import urlsplit

from . import hooks, programs, supervisor, wire
from .archive import unpack
from .attempt import Attempt, remove
from .duties import Turn
from .files import read_json
from .inputs import Cancelled, Fetcher, InputError, copy_hashed, fetch, free_bytes, inside, make_room
from .link import Backoff, Refused, Unreachable
from .machine import Machine
from .say import say
from .upload import parallel

_PATIENCE_S = 600.0  # arbitrary: how long what is needed may be out of reach
_TURN_S = 3600.0  # arbitrary: forges let runners be made at a pace, and 1,600 at once take ten minutes
_MARK_S = 30.0  # arbitrary: for a supervisor to leave its mark
_CACHE_SHARE = 0.5
_NOT_WANTED = 409
T = TypeVar("T")


class Killed(Exception):
    """Somebody else ended the supervisor before it began: nobody's fault, to be tried again."""


class NotAllowed(Exception):
    """It cannot be run with the rights that it asks for, no more and no less."""


class ForgeRefused(Exception):
    """The forge, or the controller for it, will not have this runner."""


class Prepare:
    """`run` is the duty."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def run(self, turn: Turn) -> None:
        while not turn.over:
            self.once(turn)
            turn.wait(60.0)

    def once(self, turn: Turn) -> None:
        """All that have not begun yet, one after the other."""
        for attempt in self._machine.attempts:
            if attempt.mark is None and attempt.exit is None:
                self._prepare(attempt, turn)

    def _prepare(self, attempt: Attempt, turn: Turn) -> None:
        attempt.preparing = True
        try:
            self._try(attempt, turn)
        except Cancelled:
            attempt.fail("cancelled", "cancelled before it started", exit_code=130)
        except Killed as error:
            attempt.fail("supervisor-lost", str(error))
        except (NotAllowed, programs.SoftwareError) as error:
            attempt.fail("rejected", str(error))
        except ForgeRefused as error:
            attempt.fail("forge", str(error))
        except (InputError, Refused, Unreachable, OSError) as error:
            attempt.fail("inputs-failed", str(error))
        except Exception as error:
            attempt.fail("inputs-failed", f"cannot prepare it: {error!r}")
        finally:
            attempt.preparing = False
            self._machine.duties.wake("tend", "logs")
            self._machine.news()

    def _try(self, attempt: Attempt, turn: Turn) -> None:
        resumed = self._patiently(attempt, turn, lambda: self._fill(attempt))
        if self._machine.config.user:
            self._hand_over(attempt)
        self._start(attempt, resumed, self._registered(attempt, turn) if attempt.order.runner else None)

    def _patiently(self, attempt: Attempt, turn: Turn, work: Callable[[], T], patience_s: float = _PATIENCE_S) -> T:
        """Again and again while somebody cannot be reached. Raises: what `work` raises, Cancelled."""
        backoff, deadline = Backoff(0.2, 10.0), time.monotonic() + patience_s
        while True:
            self._alive(attempt)
            try:
                done = work()
                self._alive(attempt)
                return done
            except Unreachable as error:
                say("prepare.failed", attempt=attempt.key, error=str(error))
                if time.monotonic() > deadline:
                    raise
                turn.wait(backoff.next())

    def _registered(self, attempt: Attempt, turn: Turn) -> wire.RunnerGiven:
        """Raises: Cancelled, ForgeRefused."""
        try:
            return self._patiently(attempt, turn, lambda: self._given(attempt), _TURN_S)
        except Unreachable as error:
            raise ForgeRefused(f"it was given no runner to be within {_TURN_S:g} s: {error}") from error

    def _given(self, attempt: Attempt) -> wire.RunnerGiven:
        """Who it is to be. Raises: Unreachable, Cancelled, ForgeRefused."""
        ask = wire.RunnerAsk(attempt.order.job, attempt.order.number)
        try:
            return self._machine.link.call("/agent/v1/runner", ask, wire.RunnerGiven)
        except Refused as error:
            if error.status == _NOT_WANTED:
                raise Cancelled from error
            raise ForgeRefused(f"it was given no runner to be: {error}") from error

    def _alive(self, attempt: Attempt) -> None:
        if attempt.cancel or attempt.forget or self._machine.ending:
            raise Cancelled

    def _fill(self, attempt: Attempt) -> bool:
        """The workspace as the job is to find it; whether a checkpoint was restored."""
        order = attempt.order
        timings: dict[str, float] = {}
        if os.path.lexists(attempt.workspace):
            remove(attempt.workspace)
        os.makedirs(attempt.workspace, mode=0o700)
        wanted = lambda: bool(attempt.cancel or attempt.forget)  # noqa: E731
        fetcher = Fetcher(self._machine.link, self._machine.home, order.job, order.number, wanted)
        make_room(self._machine.home, int(free_bytes(self._machine.home) * _CACHE_SHARE))
        if order.runner:
            with _timed(timings, "software_s"):
                self._install(attempt, order.runner, wanted)
        if order.workspace:
            with _timed(timings, "workspace_s"):
                unpack(workspace_tar(fetcher, order), attempt.workspace)
        if order.inputs:
            with _timed(timings, "inputs_s"):
                attempt.note(facts={"inputs": fetch(fetcher, order, attempt.workspace)})
        if order.checkpoint:
            with _timed(timings, "checkpoint_s"):
                self._restore(fetcher, attempt, order.checkpoint)
        attempt.note(facts={"timings": timings})
        return bool(order.checkpoint)

    def _install(self, attempt: Attempt, runner: wire.RunnerOrder, unwanted: Callable[[], bool]) -> None:
        """The forge's program into the workspace, and the hooks beside it."""
        from .software import install

        attempt.note(facts={"runner_software": install(self._machine, runner, attempt.workspace, unwanted)})
        folder = hooks.folder_of(attempt.workspace)
        if os.path.lexists(folder):
            remove(folder)
        program, words = programs.program_of(runner), programs.words(runner, runner.name, attempt.workspace)
        hooks.write(folder, programs.filled(program.settings, words), program.variables)

    def _restore(self, fetcher: Fetcher, attempt: Attempt, body: dict[str, Any]) -> None:
        folder = inside(attempt.workspace, attempt.order.checkpoint_path)
        os.makedirs(folder, exist_ok=True)

        def one(entry: dict[str, Any]) -> None:
            item = wire.GrantItem(entry["key"], entry["size"], entry["sha256"])
            target = inside(folder, entry["path"])
            os.makedirs(os.path.dirname(target), exist_ok=True)
            path = fetcher.cached("checkpoints", item)
            if copy_hashed(path, target) != entry["sha256"]:
                os.unlink(path)
                raise Unreachable(f"checkpoint file {entry['path']} is not what its manifest says")
            os.chmod(target, entry.get("mode", 0o644) | stat.S_IRUSR)

        parallel(list(body["files"]), one)
        about = {"from_attempt": body.get("number"), "sequence": body.get("sequence"), "files": len(body["files"])}
        attempt.note(facts={"resumed": about})
        say("checkpoint.restored", attempt=attempt.key, **about)

    def _start(self, attempt: Attempt, resumed: bool, given: Optional[wire.RunnerGiven]) -> None:
        machine = self._machine
        pid = supervisor.start(
            attempt.folder,
            attempt.order,
            attempt.workspace,
            resumed,
            machine.config.spool_limit_bytes,
            machine.program,
            machine.config.user,
            given,
        )
        deadline = time.monotonic() + _MARK_S
        path = os.path.join(attempt.folder, "supervisor.json")
        while (mark := read_json(path)) is None:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done and os.WIFSIGNALED(status):
                raise Killed(f"its supervisor was killed by signal {os.WTERMSIG(status)} as it started")
            if done or time.monotonic() > deadline:
                raise InputError(f"its supervisor did not start (status {status})")
            time.sleep(0.002)
        attempt.mark = mark
        say("attempt.started", attempt=attempt.key, supervisor=pid)

    def _hand_over(self, attempt: Attempt) -> None:
        """To the user whom it runs as: the workspace, and as many rights as the job wants. Raises: NotAllowed."""
        from . import account, wall

        address = urlsplit(self._machine.config.metadata_url).hostname or ""
        try:
            user = account.find(self._machine.config.user)
            account.allow_sudo(user, attempt.order.sudo)
            wall.open_again(user.uid, address) if attempt.order.sudo else wall.shut(user.uid, address)
            user.give(attempt.workspace)
            if attempt.order.runner:
                user.give(hooks.events_in(hooks.folder_of(attempt.workspace)))
        except (account.AccountError, OSError) as error:
            raise NotAllowed(f"cannot run it as {self._machine.config.user}: {error}") from error
        except wall.WallError as error:
            raise NotAllowed(
                f"sudo: false keeps a job from the metadata service, which cannot be done: {error}"
            ) from error


def workspace_tar(fetcher: Fetcher, order: wire.Order) -> str:
    """The packed working directory, proved to be what was ordered. Raises: Unreachable when it is not (yet)."""
    digest = order.workspace.rpartition("/")[2]
    path = fetcher.cached("workspace", wire.GrantItem(order.workspace, order.workspace_size, digest))
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            found.update(block)
    if found.hexdigest() != digest:
        os.unlink(path)
        raise Unreachable("the workspace that came is not the one that was sent")
    return path


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    timings[name] = round(time.monotonic() - began, 3)
