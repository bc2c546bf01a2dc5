"""One attempt's supervisor: owns the process tree, masks and spools its output, and writes how it ended.

It outlives the agent. Secrets come over a pipe and are never on a disk. `exit.json` is written last, when the tree is
dead and every byte of output is spooled; whoever finds none, and no supervisor, knows that the supervisor was lost.
"""

from __future__ import annotations

import json
import os
import pty
import selectors
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Tuple

from . import environment, wire, workload
from .files import read_json, write_json
from .masking import Masker, patterns
from .spool import SpoolWriter

_TICK_S = 0.05
_READ = 2**18
_STRAGGLERS_S = 2.0
_PIPE_SIZE = 2**20
_F_SETPIPE_SZ = 1031  # Source: fcntl(2)
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_EXIT_OF = {"timeout": 124, "cancelled": 130}


def start(folder: str, order: wire.Order, workspace: str, resumed: bool, spool_limit: int, agent: List[str]) -> int:
    """Begin attempt `folder`, detached. `agent` is how this very program is started. The supervisor's pid."""
    words = {"workspace": workspace, "resumed": resumed, "spool_limit": spool_limit, "secrets": order.secrets}
    child = subprocess.Popen(
        [*agent, "supervise", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=open(os.path.join(folder, "supervisor.log"), "ab"),
        start_new_session=True,
        cwd=folder,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(words).encode())
    child.stdin.close()
    child.returncode = 0  # it is not ours to wait for: it outlives us
    return child.pid


def main(folder: str) -> int:
    """The supervisor process."""
    words = json.loads(sys.stdin.buffer.read())
    if os.path.exists(os.path.join(folder, "supervisor.json")):
        return 0
    workload.become_subreaper()
    me = workload.process(os.getpid())
    assert me is not None
    mark = {"pid": me.pid, "started": me.started, "boot_id": workload.boot_id()}
    write_json(os.path.join(folder, "supervisor.json"), mark)
    raw = read_json(os.path.join(folder, "order.json"))
    order = wire.decode(wire.Order, json.dumps(raw).encode())
    Supervisor(folder, order, words).run()
    return 0


class Supervisor:
    """`run` takes the attempt from its setup to its exit file."""

    def __init__(self, folder: str, order: wire.Order, words: Dict[str, Any]) -> None:
        self._folder = folder
        self._order = order
        self._workspace = words["workspace"]
        self._env = environment.build(order, words["secrets"], words["workspace"], words["resumed"])
        self._forms = patterns(words["secrets"].values())
        self._spool = SpoolWriter(os.path.join(folder, "spool"), words["spool_limit"], self._no_room)
        self._state: Dict[str, Any] = {"phase": "starting", "timings": {}}
        self._began = time.clock_gettime(_CLOCK)
        self._main = 0
        self._status: Optional[int] = None
        self._why = ""
        self._detail = ""
        self._kill_at: Optional[float] = None
        self._streams: Dict[int, Tuple[int, Masker]] = {}
        self._selector = selectors.DefaultSelector()
        self._no_room_since = ""
        self._wake, wake_write = os.pipe()
        for end in (self._wake, wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._stop("cancelled", "asked to end", now=False))
        self._selector.register(self._wake, selectors.EVENT_READ)

    def run(self) -> None:
        code: Optional[int] = 0
        try:
            if self._order.setup:
                code = self._setup()
            if code == 0 and not self._why:
                code = self._phase("running", self._argv())
        except OSError as error:
            code, self._why, self._detail = None, "spool-failed", f"cannot keep the log: {error}"
        self._end_tree()
        self._exit(code)

    def _setup(self) -> int:
        venv = environment.venv_for(self._order, self._folder)
        if venv and not os.path.exists(os.path.join(venv, "pyvenv.cfg")):
            make = ["python3", "-m", "venv", "--system-site-packages", venv]
            self._say(f"runner: making a virtual environment for setup\n")
            code = self._phase("setup", make)
            if code != 0:
                self._why = self._why or "setup-failed"
                self._detail = f"python3 -m venv exited {code}"
                return code
        if venv:
            self._env["VIRTUAL_ENV"] = venv
            self._env["PATH"] = os.path.join(venv, "bin") + ":" + self._env["PATH"]
        code = self._phase("setup", ["/bin/sh", "-ec", self._order.setup])
        if code != 0 and not self._why:
            self._why, self._detail = "setup-failed", f"setup exited {code}"
        return code

    def _argv(self) -> List[str]:
        run = self._order.run
        return ["/bin/sh", "-c", run] if isinstance(run, str) else list(run)

    def _phase(self, name: str, argv: List[str]) -> int:
        """Run one command to its end, everything that it started included. Its exit code, as a shell has it."""
        self._state["phase"] = name
        write_json(os.path.join(self._folder, "state.json"), self._state)
        began = time.clock_gettime(_CLOCK)
        try:
            code = self._watch(argv)
        finally:
            timings = self._state["timings"]
            timings[f"{name}_s"] = timings.get(f"{name}_s", 0.0) + time.clock_gettime(_CLOCK) - began
        return code

    def _watch(self, argv: List[str]) -> int:
        self._status = None
        try:
            self._spawn(argv)
        except (FileNotFoundError, NotADirectoryError):
            self._say(f"runner: command not found: {argv[0]}\n")
            return 127
        except (PermissionError, OSError) as error:
            self._say(f"runner: cannot execute {argv[0]}: {error.strerror}\n")
            return 126
        stragglers_until = 0.0
        while True:
            self._pump(_TICK_S)
            self._reap()
            self._look_after()
            if self._status is None:
                continue
            now = time.monotonic()
            left = workload.descendants({os.getpid()})
            if left and not stragglers_until:
                workload.signal_all(left, signal.SIGTERM)
                stragglers_until = now + (0.0 if self._kill_at is not None else _STRAGGLERS_S)
            elif left and now > stragglers_until:
                workload.signal_all(left, signal.SIGKILL)
            if not left:
                self._drain()
                return os.waitstatus_to_exitcode(self._status) if self._status >= 0 else 1

    def _spawn(self, argv: List[str]) -> None:
        if self._order.tty:
            ours, theirs = pty.openpty()
            outputs = {ours: 1}
            streams: Dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        else:
            (out, out_w), (err, err_w) = os.pipe(), os.pipe()
            outputs = {out: 1, err: 2}
            streams = {"stdin": subprocess.DEVNULL, "stdout": out_w, "stderr": err_w}
            _widen(out)
        try:
            child = subprocess.Popen(
                argv,
                cwd=self._workspace,
                env=self._env,
                start_new_session=True,
                preexec_fn=_take_terminal if self._order.tty else None,
                **streams,
            )
        except OSError:
            for end in outputs:
                os.close(end)
            raise
        finally:
            for end in {streams["stdout"], streams["stderr"]}:
                os.close(end)
        child.returncode = 0  # reaped below, with everything else
        self._main = child.pid
        for end, stream in outputs.items():
            os.set_blocking(end, False)
            self._streams[end] = (stream, Masker(self._forms))
            self._selector.register(end, selectors.EVENT_READ)

    def _pump(self, timeout_s: float) -> bool:
        """Read what is there. Whether anything was."""
        some = False
        for key, _ in self._selector.select(timeout_s):
            if key.fd == self._wake:
                os.read(self._wake, 512)
            elif key.fd in self._streams:
                some |= self._read(key.fd)
        return some

    def _read(self, end: int) -> bool:
        stream, masker = self._streams[end]
        try:
            data = os.read(end, _READ)
        except BlockingIOError:
            return False
        except OSError:  # a terminal whose other side is closed
            data = b""
        if data:
            self._emit(stream, masker.feed(data))
            return True
        self._close(end)
        return False

    def _close(self, end: int) -> None:
        stream, masker = self._streams.pop(end)
        self._selector.unregister(end)
        os.close(end)
        self._emit(stream, masker.flush())

    def _drain(self) -> None:
        """The tree is dead: what is in the pipes is all there will ever be."""
        while self._streams and self._pump(0):
            pass
        for end in list(self._streams):
            self._close(end)

    def _emit(self, stream: int, data: bytes) -> None:
        limit = self._order.log_limit_bytes
        if self._spool.size + len(data) > limit:
            data = data[: max(0, limit - self._spool.size)]
            if self._why != "log-limit":
                self._stop("log-limit", f"its log passed log_limit of {limit} bytes", now=True)
        self._spool.append(stream, data)
        self._no_room_since = ""

    def _say(self, text: str) -> None:
        self._spool.append(2, text.encode())

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
        now = time.clock_gettime(_CLOCK)
        timeout_s = self._order.timeout_s
        if not self._why and timeout_s is not None and now - self._began > timeout_s:
            self._stop("timeout", f"ran longer than {timeout_s:g} s", now=False)
        asked = _content(os.path.join(self._folder, "control"))
        if asked == "now" and (self._kill_at is None or self._kill_at > now):
            self._stop(self._why or "cancelled", self._detail or "cancelled at once", now=True)
        elif asked == "kindly" and not self._why:
            self._stop("cancelled", "cancelled", now=False)
        if self._kill_at is not None and now >= self._kill_at:
            workload.signal_all(workload.descendants({os.getpid()}), signal.SIGKILL)

    def _stop(self, why: str, detail: str, *, now: bool) -> None:
        self._why, self._detail = why, detail
        clock = time.clock_gettime(_CLOCK)
        self._kill_at = clock if now else clock + self._order.grace_s
        if not now and self._main and self._status is None:
            try:
                os.killpg(self._main, signal.SIGTERM)
            except ProcessLookupError:
                return

    def _no_room(self, what: str) -> None:
        """The spool or the disk is full: the job waits, we look after it meanwhile, and it is said once."""
        if self._no_room_since != what:
            self._no_room_since = what
            self._state["waits_for"] = what
            with open(os.path.join(self._folder, "events.log"), "a") as file:
                file.write(f"{time.time():.3f} waits for room: {what}\n")
        self._reap()
        self._look_after()
        time.sleep(_TICK_S)

    def _end_tree(self) -> None:
        while True:
            self._reap()
            left = workload.descendants({os.getpid()})
            if not left:
                return
            workload.signal_all(left, signal.SIGKILL)
            time.sleep(0.005)

    def _exit(self, code: Optional[int]) -> None:
        self._spool.close()
        if code is not None and code < 0:
            code = 128 - code
        value = {
            "exit_code": _EXIT_OF.get(self._why, code),
            "why": self._why,
            "detail": self._detail,
            "log_size": self._spool.size,
            "timings": self._state["timings"],
        }
        write_json(os.path.join(self._folder, "exit.json"), value, durable=True)


def _content(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _widen(end: int) -> None:
    import fcntl

    try:
        fcntl.fcntl(end, _F_SETPIPE_SZ, _PIPE_SIZE)
    except OSError:
        return


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
