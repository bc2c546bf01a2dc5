"""How each forge's runner program is run: a table, so that another forge is another row.

Words in braces are filled in for an attempt: {name} is the runner's, {base} the forge's address, {folder} where the
program was put, {started} and {completed} the hooks' scripts, {tell_started} the shell's words for the first of them,
{settings} the file that `settings` is written to. The secret is never among the words: those can be read by anybody.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import hooks

if TYPE_CHECKING:
    from . import wire

_GONE_WRONG = "the forge's runner ended with an error: its log says which"


class SoftwareError(ValueError):
    """The program cannot be had as it was ordered, and will not be by trying again."""


@dataclass(frozen=True)
class Program:
    """One program that takes a single job.

    Its secret is in the variable `secret`, or in `secret_file` of the workspace, which its user alone can read. `stop`
    is the signal at which it ends its job and tells the forge; `drain`, where there is one, that at which it ends when
    its job is over. `again`: after which exit codes it is to be started again, and after how many seconds (or as soon
    as the file `ready` appears). `meanings` of exit codes are told as the attempt's end, `refused` are those that say
    that the forge takes no program of this version. `at_work`: it has children only while it has a job, and then until
    it ends; else hooks say when it begins and ends. `farewell`: the address at which it can have its own record removed
    with its secret, where the forge does not do that by itself.
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


_HOOKS = {"ACTIONS_RUNNER_HOOK_JOB_STARTED": "{started}", "ACTIONS_RUNNER_HOOK_JOB_COMPLETED": "{completed}"}

# run.sh turns the exit codes 1 and 5 into 0, so the listener is run as RunnerService.js does it. It forgets the
# variable with its configuration before any step starts. Source: actions/runner, src/Runner.Listener (Program.cs,
# Runner.cs, CommandSettings.cs), src/Misc/layoutroot/run-helper.sh.template, docs/adrs/1751-runner-job-hooks.md; 7 is
# there since v2.333.0.
_GITHUB = Program(
    executable="bin/Runner.Listener",
    argv=("run",),
    secret="ACTIONS_RUNNER_INPUT_JITCONFIG",
    stop=signal.SIGINT,
    env={
        **_HOOKS,
        "ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT": "1",
        "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE": "1",
    },
    again={2: 5.0, 3: 30.0, 4: 30.0, 6: 1.0},
    ready="update.finished",
    meanings={
        1: _GONE_WRONG,
        5: "another program has this runner's session at the forge",
        7: "version refused: the forge does not take {software} {version} any more",
    },
    refused=(7,),
    at_work=False,
)

# The job would find the runner's own token in its environment, but for --env. Source: gitlab-runner, commands/single.go
# and common/config.go. The script before a build says it again for a job that fetches no sources.
_GITLAB = Program(
    executable="gitlab-runner",
    argv=(
        *("run-single", "--url", "{base}", "--name", "{name}", "--executor", "shell", "--max-builds", "1"),
        *("--builds-dir", "{folder}/builds", "--cache-dir", "{folder}/cache", "--env", "CI_SERVER_TOKEN="),
        *("--pre-get-sources-script", "{tell_started}", "--pre-build-script", "{tell_started}"),
    ),
    secret="CI_SERVER_TOKEN",
    stop=signal.SIGTERM,
    drain=signal.SIGQUIT,
    meanings={1: _GONE_WRONG},
    farewell="{base}/api/v4/runners",
)

_GITEA_SETTINGS = {
    "runner": {"file": ".runner", "capacity": 1, "envs": _HOOKS},
    "host": {"workdir_parent": "{folder}/_work"},
}

# What it is given is its own registration, not the right to make one. Source: gitea.com/gitea/runner, internal/app/cmd
# (daemon.go), internal/pkg/config/config.example.yaml and act/runner/job_hooks.go, which older versions do not have.
_GITEA = Program(
    executable="act_runner",
    argv=("--config", "{settings}", "daemon"),
    secret_file=".runner",
    stop=signal.SIGTERM,
    settings=_GITEA_SETTINGS,
    meanings={1: _GONE_WRONG},
)

# It has no hooks. Source: code.forgejo.org/forgejo/runner, internal/app/cmd (cmd.go, job.go), of version 12; not tried
# with the program itself.
_FORGEJO = Program(
    executable="forgejo-runner",
    argv=("--config", "{settings}", "one-job", "--wait"),
    secret_file=".runner",
    stop=signal.SIGTERM,
    settings=_GITEA_SETTINGS,
    meanings={1: _GONE_WRONG},
)

PROGRAMS = {  # by the name of the software
    "actions-runner": _GITHUB,
    "gitlab-runner": _GITLAB,
    "act_runner": _GITEA,
    "forgejo-runner": _FORGEJO,
}


def program_of(order: wire.RunnerOrder) -> Program:
    """Raises: SoftwareError."""
    program = PROGRAMS.get(order.software)
    if program is None:
        raise SoftwareError(f"this agent does not know {order.software!r}; it knows {', '.join(PROGRAMS)}")
    return program


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
