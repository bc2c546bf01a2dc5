"""How a forge's runner program is run: as the order says that comes with it, so that no forge is known here.

Words in braces are filled in for an attempt: {name} is the runner's, {base} the forge's address, {folder} where the
program was put, {started} and {completed} the hooks' scripts, {tell_started} the shell's words for the first of them,
{settings} the file that `settings` is written to, {software} and {version} what was ordered. The secret is never among
the words: those can be read by anybody.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import hooks
from .codec import build
from .runner_messages import Program as Told

if TYPE_CHECKING:
    from . import wire

_WORDS = ("name", "base", "folder", "started", "tell_started", "completed", "settings", "software", "version")
_FILLED = re.compile("|".join((r"\{\{", r"\}\}", *(rf"\{{{word}\}}" for word in _WORDS))))
_CODE = re.compile(r"[0-9]{1,3}")
_LONGEST_S = 86400.0  # arbitrary


class SoftwareError(ValueError):
    """The program cannot be had as it was ordered, and will not be by trying again."""


@dataclass(frozen=True)
class Program:
    """One program that takes a single job.

    `executable`, like all its files, lies below the workspace. Its secret is in the variable `secret`, or in
    `secret_file` of the workspace, which its user alone can read. `settings` are its own, if it has any, as JSON.
    `stop` is the signal at which it ends its job and tells the forge; `drain`, where there is one, that at which it
    ends when its job is over. `again`: after which exit codes it is to be started again, and after how many seconds (or
    as soon as the file `ready` appears). `meanings` of exit codes are told as the attempt's end, `refused` are those
    that say that the forge takes no program of this version. `at_work`: it has children only while it has a job, and
    then until it ends; else hooks say when it begins and ends. `farewell`: the address at which it can have its own
    record removed with its secret, where the forge does not do that by itself. `variables`: what a job's environment
    calls its repository, run, job and actor, for the hooks to tell.
    """

    executable: str
    argv: tuple[str, ...]
    stop: int
    secret: str = ""
    secret_file: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    drain: int = 0
    again: Mapping[int, float] = field(default_factory=dict)
    ready: str = ""
    meanings: Mapping[int, str] = field(default_factory=dict)
    refused: tuple[int, ...] = ()
    at_work: bool = True
    farewell: str = ""
    variables: Mapping[str, list[str]] = field(default_factory=dict)


def program_of(order: wire.RunnerOrder) -> Program:
    """Raises: SoftwareError."""
    if not order.program:
        raise SoftwareError(f"{order.software!r} was ordered without a word of how it is run")
    try:
        return _understood(build(Told, order.program))
    except ValueError as error:
        said = f"{order.software!r} was ordered to be run in a way that this agent does not understand: {error}"
        raise SoftwareError(said) from error


def words(order: wire.RunnerOrder, name: str, workspace: str) -> dict[str, str]:
    """What the braces stand for."""
    folder = hooks.folder_of(workspace)
    started = os.path.join(folder, hooks.STARTED)
    return {
        "name": name,
        "base": order.base,
        "folder": workspace,
        "started": started,
        "tell_started": f"sh {shlex.quote(started)}",
        "completed": os.path.join(folder, hooks.COMPLETED),
        "settings": os.path.join(folder, hooks.SETTINGS),
        "software": order.software,
        "version": order.version,
    }


def filled(value: Any, words: Mapping[str, str]) -> Any:
    """Texts, and texts within lists and mappings, with the words in braces put in."""
    if isinstance(value, str):
        return value.format_map(words)
    if isinstance(value, Mapping):
        return {key: filled(one, words) for key, one in value.items()}
    return [filled(one, words) for one in value] if isinstance(value, (list, tuple)) else value


def meaning(program: Program, code: int, words: Mapping[str, str]) -> str:
    """What an exit code says of the end of an attempt; "" for a good one."""
    if code == 0:
        return ""
    said = program.meanings.get(code)
    if said is not None:
        return f"{filled(said, words)} (exit code {code})"
    how = f"was killed by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
    return f"the forge's runner {how}"


def _understood(told: Told) -> Program:
    """Raises: ValueError."""
    for text in _texts(dataclasses.asdict(told)):
        _check_text(text)
    _check_places(told)
    variables = [name for names in told.variables.values() for name in names]
    for name in (*variables, *told.env, *([told.secret] if told.secret else ())):
        if not hooks.VARIABLE.fullmatch(name):
            raise ValueError(f"{name[:80]!r} is not the name of a variable")
    numbers = {
        "stop": _signal(told.stop),
        "drain": _signal(told.drain) if told.drain else 0,
        "again": {_code(code): _seconds(wait_s) for code, wait_s in told.again.items()},
        "meanings": {_code(code): said for code, said in told.meanings.items()},
    }
    return Program(**{**vars(told), "argv": tuple(told.argv), "refused": tuple(told.refused), **numbers})


def _texts(value: Any) -> Iterator[str]:
    """Every text within lists and mappings, but for the names in those."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _check_text(text: str) -> None:
    """Raises: ValueError."""
    if "\0" in text or re.search(r"[\ud800-\udfff]", text):
        raise ValueError(f"{text[:80]!r} is no text")
    if re.search(r"[{}]", _FILLED.sub("", text)):
        raise ValueError(f"{text[:80]!r} has more in braces than {', '.join(_WORDS)}")


def _check_places(told: Told) -> None:
    """Raises: ValueError."""
    if not told.executable:
        raise ValueError("it has no executable")
    for path in (told.executable, told.secret_file, told.ready):
        if os.path.isabs(path) or ".." in path.split("/"):
            raise ValueError(f"{path[:80]!r} is not below the workspace")
    if told.farewell and not told.farewell.startswith(("https://", "{base}/")):
        raise ValueError(f"{told.farewell[:80]!r} is no address at the forge")


def _signal(name: str) -> int:
    """Raises: ValueError."""
    found = signal.Signals.__members__.get(f"SIG{name}")
    if found is None:
        raise ValueError(f"{name[:80]!r} is not the name of a signal")
    return found


def _code(text: str) -> int:
    """Raises: ValueError."""
    if not _CODE.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not an exit code")
    return int(text)


def _seconds(wait_s: float) -> float:
    """Raises: ValueError."""
    if not 0 <= wait_s <= _LONGEST_S:
        raise ValueError(f"{wait_s} is not between 0 and {_LONGEST_S:g} s")
    return wait_s
