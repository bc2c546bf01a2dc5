"""A supervisor whose job is a forge's runner: started as its order says, and never stopped in the middle of a CI job.

In, over the pipe: who it is to be, with its secret, which is masked and never on a disk. Out, in `state.json` and
`exit.json`: `runner`, what it does by its hooks, and why it ended where its exit code tells.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Optional, cast

from . import hooks, programs, workload
from .config import HANDED_OVER
from .masking import SHORTEST
from .supervisor import Supervisor, boot_clock, notify

if TYPE_CHECKING:
    from . import wire

_LOOK_AT_WORK_S = 1.0
_REPORTED_S = 10.0  # arbitrary: for a job's end to be reported
_PAUSE_S = 0.1


class Serving(Supervisor):
    """`run` takes it from its registration to its end."""

    def __init__(self, folder: str, order: wire.Order, words: dict[str, Any]) -> None:
        given = words["runner"]
        self._ordered = cast("wire.RunnerOrder", SimpleNamespace(**cast("dict[str, Any]", order.runner)))
        self._program = programs.program_of(self._ordered)
        self._secret = given["secret"]
        super().__init__(folder, order, words)
        self._words = programs.words(self._ordered, given["name"], words["workspace"])
        self._env.update(programs.filled(self._program.env, self._words))
        self._heard = hooks.Heard(hooks.folder_of(words["workspace"]))
        self._notified = self._notified and notify(hooks.folder_of(words["workspace"]))
        self._state["runner"] = {"phase": "waiting", "since": boot_clock(), "jobs": 0, "job": {}}
        self._serving = self._at_work = self._asked = self._drained = self._cut_short = False
        self._looked_at, self._worked_at = 0.0, -_REPORTED_S

    def _hidden(self, words: dict[str, Any]) -> list[str]:
        return [*super()._hidden(words), *parts_of(words["runner"]["secret"])]

    def _work(self) -> int:
        """Its command, again for as long as its exit code says so."""
        begun = {**self._env, self._program.secret: self._secret} if self._program.secret else self._env
        if self._program.secret_file:
            self._write_secret(os.path.join(self._workspace, self._program.secret_file))
        self._serving = True
        self._state["runner"]["since"] = boot_clock()
        while True:
            code = self._command(self._program.argv, begun)
            if code not in self._program.again or self._why:
                break
            self._pause(self._program.again[code])
        self._look()
        self._serving = False
        if self._asked and not self._state["runner"]["jobs"] and not self._why:
            # However it ended: it may have been removed at the forge.
            self._why, self._detail = "cancelled", "cancelled"
        return self._meant(code)

    def _write_secret(self, path: str) -> None:
        """Nothing of a job's has run in the workspace yet."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            if self._account:
                os.fchown(file.fileno(), self._account.uid, self._account.gid)
            file.write(self._secret)

    def _command(self, argv: tuple[str, ...], env: dict[str, str]) -> int:
        program = os.path.join(self._workspace, self._program.executable)
        return self._phase("running", "run_s", [program, *programs.filled(argv, self._words)], env)

    def _meant(self, code: int) -> int:
        said = programs.meaning(self._program, code, self._words)
        if said and not self._why:
            self._why = "version-refused" if code in self._program.refused else "forge"
            self._detail = said
        return code

    def _pause(self, longest_s: float) -> None:
        """Until its files are ready, if it makes any, or it is not wanted any more."""
        flag = os.path.join(self._workspace, self._program.ready)
        until = boot_clock() + longest_s
        while boot_clock() < until and not self._why:
            if self._program.ready and os.path.lexists(flag):
                os.unlink(flag)
                return
            self._pump(_PAUSE_S)
            self._reap()
            self._look_after()

    def _look_after(self) -> None:
        if self._serving:
            self._look()
        super()._look_after()

    def _look(self) -> None:
        """At what the hooks say, and whether it has children where that tells more."""
        heard = self._heard
        changed = heard.look()
        if not self._program.at_work:
            busy = heard.busy
        else:
            self._at_work = self._at_work or heard.jobs > 0 or self._has_children()
            busy = self._at_work
        jobs = max(heard.jobs, int(self._at_work))
        phase = "busy" if busy else "done" if jobs else "waiting"
        if changed or phase != self._state["runner"]["phase"]:
            self._runner(phase=phase, jobs=jobs, job=heard.job)

    def _has_children(self) -> bool:
        """Asked for once a second at most: it reads the whole of /proc."""
        if not self._main or boot_clock() - self._looked_at < _LOOK_AT_WORK_S:
            return False
        self._looked_at = boot_clock()
        return bool(self._tree())

    def _tree(self) -> list[int]:
        return workload.descendants({self._main}) if self._main else []

    def _runner(self, phase: str, **parts: Any) -> None:
        if phase != self._state["runner"]["phase"]:
            parts["since"] = boot_clock()
        self._state["runner"] = {**self._state["runner"], "phase": phase, **parts}
        self._tell()

    def _leave(self, asked: str) -> None:
        """Kindly: never in the middle of a CI job, and no other after it. It takes one only, so that is to wait."""
        self._asked = True
        if asked == "kindly" and self._serving and not self._settled:
            if self._program.drain:
                self._drain()
                return
            if self._state["runner"]["phase"] != "waiting" or self._worked_lately():
                return
        super()._leave(asked)

    def _worked_lately(self) -> bool:
        """A job that no hook told of: it has not come so far yet, or failed before, and is being reported."""
        if self._tree():
            self._worked_at = boot_clock()
        return boot_clock() - self._worked_at < _REPORTED_S

    def _drain(self) -> None:
        if self._main and not self._drained:
            workload.signal_all([self._main], self._program.drain)
            self._drained = True

    def _ask(self) -> None:
        """Only the program itself: it stops what it runs and tells the forge."""
        self._cut_short = self._state["runner"]["phase"] == "busy"
        if self._main:
            workload.signal_all([self._main], self._program.stop)
        else:
            super()._ask()

    def _exit(self, code: Optional[int]) -> None:
        """Of a machine that no controller looks after, nobody else can take the record away."""
        if self._program.farewell and os.path.exists(os.path.join(self._folder, HANDED_OVER)):
            from .farewell import say_farewell

            said = say_farewell(self._program.farewell.format_map(self._words), self._secret)
            self._event(what="runner.farewell", said=said)
        super()._exit(code)

    def _ending(self) -> dict[str, Any]:
        """One that had a job when it was told to end, or that did not end well in it, is busy at its end."""
        cut_short = self._cut_short or (self._why and self._state["runner"]["phase"] == "busy")
        phase = "busy" if cut_short else "done"
        return {**super()._ending(), "runner": {**self._state["runner"], "phase": phase}}


def parts_of(secret: str) -> list[str]:
    """The secret, and what is secret within it: the token of a registration that is JSON, or the credentials of a JIT
    configuration, base64 of a map from file names to base64 files. Source: actions/runner,
    src/Runner.Listener/Runner.cs."""
    found = [secret]
    try:
        if secret.startswith("{"):
            return [one for one in (secret, str(json.loads(secret).get("token", ""))) if len(one) >= SHORTEST]
        files = json.loads(base64.b64decode(secret, validate=True))
        for name, packed in files.items() if isinstance(files, dict) else ():
            if str(name).startswith(".credentials"):
                found += [packed, *_leaves(json.loads(base64.b64decode(packed)))]
    except (ValueError, TypeError, binascii.Error):
        pass  # a plain token
    return [one for one in found if len(one) >= SHORTEST]


def _leaves(value: Any) -> list[str]:
    """Every text in it that is no address."""
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in _leaves(one)]
    if isinstance(value, list):
        return [leaf for one in value for leaf in _leaves(one)]
    return [value] if isinstance(value, str) and "://" not in value else []
