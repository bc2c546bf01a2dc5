"""What a runner's hooks say: a CI job has begun, or has ended, and whose it is.

The scripts lie in a folder that belongs to the agent, so that a job can neither change nor replace them; all it can
write to is one file there, which was opened before it began. What is read from it is believed of this attempt only, and
never more than a little of it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

STARTED, COMPLETED, SETTINGS = "job-started.sh", "job-completed.sh", "settings.json"
_EVENTS = "events"
_AT_ONCE, _MOST = 2**16, 2**20  # arbitrary: bytes read at a time, and of one attempt
_LONGEST = 200  # characters of one value
_FACTS = ("repository", "run", "job", "actor")
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_SCRIPT = """#!/bin/sh
# Tells this machine's agent that a CI job has {what}. It never fails the job.
{{ printf '{what}{slots}\\n' {values} >> {path}; }} 2>/dev/null || :
"""


def folder_of(workspace: str) -> str:
    return f"{workspace}.hooks"


def events_in(folder: str) -> str:
    """What the scripts write to. It must be given to whoever runs them."""
    return os.path.join(folder, _EVENTS)


def write(folder: str, settings: Mapping[str, Any], variables: Mapping[str, Sequence[str]]) -> None:
    """The scripts, the file that they write to, and the program's own settings if it has any. Each fact is in the first
    of its `variables` that is set; their names are such as `VARIABLE` has them."""
    os.makedirs(folder, mode=0o755)
    os.chmod(folder, 0o755)
    events = events_in(folder)
    slots = "".join(f"\\t{name}=%s" for name in _FACTS)
    values = " ".join(f'"{_first(variables.get(name, ()))}"' for name in _FACTS)
    for name, what in ((STARTED, "started"), (COMPLETED, "completed")):
        text = _SCRIPT.format(what=what, slots=slots, values=values, path=shlex.quote(events))
        _whole(os.path.join(folder, name), text, 0o555)
    if settings:
        _whole(os.path.join(folder, SETTINGS), json.dumps(settings), 0o444)
    _whole(events, "", 0o600)


def _first(names: Sequence[str]) -> str:
    """For the shell, the value of the first that is set."""
    value = ""
    for name in reversed(names):
        value = f"${{{name}:-{value}}}"
    return value


def _whole(path: str, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)


class Heard:
    """What the hooks have said so far: `busy`, `jobs` begun, and what is known of the latest."""

    def __init__(self, folder: str) -> None:
        self.busy = False
        self.jobs = 0
        self.job: dict[str, str] = {}
        self._events = os.open(events_in(folder), os.O_RDONLY | os.O_NOFOLLOW)
        self._read = 0
        self._rest = b""

    def look(self) -> bool:
        """Read what is new. Whether anything changed."""
        data = os.pread(self._events, _AT_ONCE, self._read) if self._read < _MOST else b""
        if not data:
            return False
        before = (self.busy, self.jobs, self.job)
        self._read += len(data)
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_AT_ONCE:]
        for line in lines:
            self._take(line.decode("utf-8", "replace").split("\t"))
        return before != (self.busy, self.jobs, self.job)

    def _take(self, words: list[str]) -> None:
        pairs = (word.partition("=") for word in words[1:])
        facts = {name: _clean(value) for name, _, value in pairs if name in _FACTS and value}
        if words[0] == "started":
            self.jobs += not self.busy
            self.busy, self.job = True, facts
        elif words[0] == "completed" and self.busy:
            self.busy = False


def _clean(value: str) -> str:
    return "".join(one for one in value if one.isprintable())[:_LONGEST]
