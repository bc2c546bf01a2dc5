"""One attempt's supervisor: owns the process tree, masks and spools its output, and writes how it ended.

It outlives the agent. Secrets come over a pipe and are never on a disk. `exit.json` is written last, when the tree is
dead and every byte of output is spooled; whoever finds none, and no supervisor, knows that the supervisor was lost.
In its folder it reads `order.json` and `control` ("kindly", "firmly" or "now"), and writes `supervisor.json`,
`state.json`, `events.jsonl` (what slowed the job), `spool/` and `exit.json`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, Optional

from . import environment, workload
from .files import append_line, content, write_json
from .masking import patterns
from .output import STDERR, Output
from .spool import SpoolWriter, full

if TYPE_CHECKING:
    from . import wire
    from .account import Account

_TICK_S = 0.05
_LONG_TICK_S = 0.5
_HARD_TICK_S = 0.002
_RETRY_S = 0.02
_STRAGGLERS_S = 2.0
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_EXIT_OF = {"timeout": 124, "cancelled": 130}
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as a shell has them


def start(
    folder: str,
    order: wire.Order,
    workspace: str,
    resumed: bool,
    spool_limit: int,
    agent: list[str],
    user: str = "",
    runner: Optional[wire.RunnerGiven] = None,
) -> int:
    """Begin attempt `folder`, detached. `agent` is how this very program is started, `user` whom the job runs as ("":
    as we do), `runner` who it is to be if it is one. The supervisor's pid."""
    words: dict[str, Any] = {"workspace": workspace, "resumed": resumed, "spool_limit": spool_limit, "user": user}
    words["secrets"] = order.secrets
    if runner is not None:
        words["runner"] = {"name": runner.name, "secret": runner.secret}
    with open(os.path.join(folder, "supervisor.log"), "ab") as said:
        child = subprocess.Popen(
            [*agent, "supervise", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
            cwd=folder,
            env={**os.environ, workload.MARKER: environment.key(order)},
        )
    child.returncode = 0  # it is not ours to wait for: it outlives us
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError), child.stdin:  # whoever waits for its mark sees how it died
        child.stdin.write(json.dumps(words).encode())
    return child.pid


class Supervisor:
    """`run` takes the attempt from its setup to its exit file."""

    def __init__(self, folder: str, order: wire.Order, words: dict[str, Any]) -> None:
        self._folder = folder
        self._order = order
        self._workspace = words["workspace"]
        self._account = _account(words["user"])
        user = self._account.environment() if self._account else {}
        self._env = environment.build(order, words["secrets"], words["workspace"], words["resumed"], user)
        self._output = Output(patterns(self._hidden(words)), self._keep)
        self._spool = SpoolWriter(os.path.join(folder, "spool"), words["spool_limit"], self._wait_for_room)
        self._state: dict[str, Any] = {"phase": "starting", "timings": {}}
        self._untold_since: Optional[float] = None
        self._events: list[dict[str, Any]] = []
        self._waits_for = ""
        self._began = boot_clock()
        self._main = 0
        self._status: Optional[int] = None
        self._settled = False
        self._why = ""
        self._detail = ""
        self._kill_at: Optional[float] = None
        self._told = False
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        self._notified = notify(folder)

    def _hidden(self, words: dict[str, Any]) -> list[str]:
        """What is masked in the output."""
        return list(words["secrets"].values())

    def run(self) -> None:
        code: Optional[int] = 0
        try:
            self._look_after()
            if self._order.setup and not self._why:
                code = self._setup()
            if code == 0 and not self._why:
                code = self._work()
        except OSError as error:
            code = None
            self._fail("spool-failed", f"cannot keep the log: {error}")
        self._settled = True
        self._end_tree()
        self._exit(code)

    def _setup(self) -> int:
        """Its exit code. What it installs goes into an environment that later attempts with the same setup find again;
        it runs each time all the same, for what it does to the workspace."""
        venv = environment.venv_for(self._order, self._workspace)
        if venv:
            environment.enter(self._env, venv)
            if not environment.complete(venv):
                if self._account:
                    os.makedirs(venv, exist_ok=True)
                    self._account.give(venv)
                self._say("making a virtual environment for setup")
                code = self._phase("setup", "setup_s", environment.making(self._order, venv), self._env)
                if code != 0:
                    return self._failed("making a virtual environment", code)
        code = self._phase("setup", "setup_s", ["/bin/sh", "-ec", self._order.setup], self._env)
        if code != 0:
            return self._failed("setup", code)
        if venv:
            environment.mark_complete(venv)
        return 0

    def _failed(self, what: str, code: int) -> int:
        if not self._why:
            self._why, self._detail = "setup-failed", f"{what} exited {code}"
        return code

    def _work(self) -> int:
        run = self._order.run
        return self._phase("running", "run_s", ["/bin/sh", "-c", run] if isinstance(run, str) else list(run), self._env)

    def _phase(self, name: str, timing: str, argv: list[str], env: dict[str, str]) -> int:
        """Run one command to its end. Its exit code, as a shell has it."""
        self._state["phase"] = name
        self._tell()
        timings = self._state["timings"]
        began = boot_clock()
        try:
            return self._watch(argv, env)
        finally:
            timings[timing] = round(timings.get(timing, 0.0) + boot_clock() - began, 6)

    def _watch(self, argv: list[str], env: dict[str, str]) -> int:
        self._status = None
        try:
            self._main = self._output.start(argv, self._order.tty, cwd=self._workspace, env=env, **self._how())
        except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
            return self._refused(argv, error)
        while self._status is None:
            if self._output.pump(self._tick_s()):
                self._reap()
            self._look_after()
        self._main = 0
        code = os.waitstatus_to_exitcode(self._status)
        return code if code >= 0 else 128 - code

    def _how(self) -> dict[str, Any]:
        """Whom a process of the job's is started as."""
        return self._account.how(self._order.sudo) if self._account else {}

    def _refused(self, argv: list[str], error: Exception) -> int:
        """Say in one line why it cannot even begin."""
        self._status = 0
        word = argv[0] if argv else ""
        reason = error.strerror if isinstance(error, OSError) else str(error)
        missing = isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR)
        if not os.path.isdir(self._workspace):
            self._say(f"cannot execute {word}: the workspace {self._workspace} is gone")
        elif missing and os.path.exists(os.path.join(self._workspace, word)) and "/" in word:
            self._say(f"cannot execute {word}: the interpreter that its first line names was not found")
        elif missing:
            self._say(f"command not found: {word}")
            return _NOT_FOUND
        else:
            self._say(f"cannot execute {word}: {reason}")
        return _NOT_EXECUTABLE

    def _keep(self, stream: int, data: bytes) -> None:
        """Into the spool, up to the log's limit."""
        if self._why == "spool-failed":
            return
        room = self._order.log_limit_bytes - self._spool.size
        if len(data) > room:
            data = data[: max(0, room)]
            if self._why != "log-limit":
                self._fail("log-limit", f"its log passed log_limit of {self._order.log_limit_bytes} bytes")
        self._spool.append(stream, data)
        if self._waits_for:
            self._wait_is_over()

    def _say(self, text: str) -> None:
        self._spool.append(STDERR, f"runner: {text}\n".encode(errors="replace"))

    def _on_term(self, *_: object) -> None:
        self._told = True

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._main:
                self._status = status

    def _look_after(self) -> None:
        """Time-out, cancellation, and the end of whoever was asked to end and did not."""
        timeout_s = self._order.timeout_s
        asked = content(os.path.join(self._folder, "control"))
        if asked == "now":
            self._stop("cancelled", "cancelled at once", 0.0)
        elif asked or self._told:
            self._leave("" if self._told else asked)
        if timeout_s is not None and boot_clock() - self._began > timeout_s:
            self._stop("timeout", f"ran longer than {timeout_s:g} s", self._order.grace_s)
        if self._kill_at is not None and boot_clock() >= self._kill_at:
            workload.signal_all(workload.descendants({os.getpid()}), signal.SIGKILL)
        if self._untold_since is not None and boot_clock() - self._untold_since > _LONG_TICK_S:
            self._tell()

    def _leave(self, asked: str) -> None:
        """With time to do so. `asked` is how it was, "" by a signal."""
        self._stop("cancelled", "cancelled" if asked else "asked to end", self._order.grace_s)

    def _ask(self) -> None:
        workload.ask_to_end(os.getpid(), self._main)

    def _tick_s(self) -> float:
        """How long nothing has to be looked after, unless a signal or output comes."""
        if not self._notified or self._kill_at is not None:
            return _TICK_S
        if self._order.timeout_s is None:
            return _LONG_TICK_S
        return min(_LONG_TICK_S, max(_HARD_TICK_S, self._began + self._order.timeout_s - boot_clock()))

    def _stop(self, why: str, detail: str, grace_s: float) -> None:
        """Never later than what was said before, and for the first reason given; what has ended by itself has ended."""
        first = not self._why and not self._settled
        if first:
            self._why, self._detail = why, detail
        if first or grace_s == 0:
            kill_at = boot_clock() + grace_s
            self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)
        if first and grace_s > 0:
            self._ask()

    def _fail(self, why: str, detail: str) -> None:
        """At once, and whatever else it was ending for."""
        self._why, self._detail, self._kill_at = why, detail, boot_clock()

    def _wait_for_room(self, what: str) -> None:
        """The spool or the disk is full: the job waits, we look after it meanwhile, and it is said once."""
        if self._waits_for != what:
            self._wait_is_over()
            self._waits_for, self._waits_since = what, boot_clock()
            self._state["waits_for"] = what
            self._event(what="log.waits", waits_for=what, offset=self._spool.size)
        self._reap()
        self._look_after()
        time.sleep(_RETRY_S)

    def _wait_is_over(self) -> None:
        if self._waits_for:
            waited_s = round(boot_clock() - self._waits_since, 3)
            name, timings = f"waited_for_{self._waits_for}_s", self._state["timings"]
            timings[name] = round(timings.get(name, 0.0) + waited_s, 3)
            self._event(what="log.goes_on", waited_for=self._waits_for, seconds=waited_s)
            self._waits_for = self._state["waits_for"] = ""

    def _event(self, **facts: Any) -> None:
        self._events.append({"at": round(time.time(), 3), **facts})
        self._tell()

    def _tell(self) -> None:
        """State and events. A full disk may hold these up, and must not stop the job."""
        self._untold_since = boot_clock()
        try:
            write_json(os.path.join(self._folder, "state.json"), self._state)
            while self._events:
                append_line(os.path.join(self._folder, "events.jsonl"), json.dumps(self._events[0]))
                self._events.pop(0)
            self._untold_since = None
        except OSError as error:
            if not full(error):
                raise

    def _end_tree(self) -> None:
        """Whoever is left: asked once, waited for, killed; as often as it takes, since more may be forking."""
        me = {os.getpid()}
        if self._kill_at is None and workload.descendants(me):
            self._kill_at = boot_clock() + _STRAGGLERS_S
            workload.ask_to_end(os.getpid(), 0)
        while workload.descendants(me):
            killing = self._kill_at is not None and boot_clock() >= self._kill_at
            self._pump(_HARD_TICK_S if killing else self._tick_s())
            self._reap()
            self._look_after()
        try:
            self._output.drain()
        except OSError as error:
            self._fail("spool-failed", f"cannot keep the log: {error}")

    def _pump(self, timeout_s: float) -> None:
        try:
            self._output.pump(timeout_s)
        except OSError as error:
            self._fail("spool-failed", f"cannot keep the log: {error}")

    def _exit(self, code: Optional[int]) -> None:
        try:
            self._spool.close()
        except OSError as error:
            self._fail("spool-failed", f"cannot keep the log: {error}")
        value = {"exit_code": _EXIT_OF.get(self._why, code), **self._ending()}
        while True:
            try:
                return write_json(os.path.join(self._folder, "exit.json"), value, durable=True)
            except OSError as error:
                if not full(error):
                    raise
            time.sleep(_RETRY_S)

    def _ending(self) -> dict[str, Any]:
        timings = self._state["timings"]
        return {"why": self._why, "detail": self._detail, "log_size": self._spool.size, "timings": timings}


def _account(user: str) -> Optional[Account]:
    """Raises: AccountError."""
    if not user:
        return None
    from .account import find

    return find(user)


def boot_clock() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


def notify(folder: str) -> bool:
    """Have a signal sent whenever a file in `folder` appears or changes; False where that cannot be had. (inotify would
    take one of the few instances that a user may have, for each attempt.)"""
    signal.signal(signal.SIGIO, lambda *_: None)
    watched = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # watched for as long as it is open: to our end
    try:
        what = fcntl.DN_CREATE | fcntl.DN_MODIFY | fcntl.DN_RENAME | fcntl.DN_MULTISHOT
        fcntl.fcntl(watched, fcntl.F_NOTIFY, what)
    except (OSError, AttributeError):
        return False
    return True
