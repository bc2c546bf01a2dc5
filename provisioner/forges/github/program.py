"""How GitHub's runner program is run."""

from __future__ import annotations

from provisioner.domain.program import GONE_WRONG, Program

from ..actions import HOOKS, VARIABLES

NAME = "actions-runner"
# run.sh turns the exit codes 1 and 5 into 0, so the listener is run as RunnerService.js does it. It forgets the
# variable with its configuration before any step starts. Source: actions/runner, src/Runner.Listener (Program.cs,
# Runner.cs, CommandSettings.cs), src/Misc/layoutroot/run-helper.sh.template, docs/adrs/1751-runner-job-hooks.md; 7 is
# there since v2.333.0.
_PROGRAM = Program(
    executable="bin/Runner.Listener",
    argv=("run",),
    secret="ACTIONS_RUNNER_INPUT_JITCONFIG",
    stop="INT",
    env={
        **HOOKS,
        "ACTIONS_RUNNER_PRINT_LOG_TO_STDOUT": "1",
        "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE": "1",
    },
    again={2: 5.0, 3: 30.0, 4: 30.0, 6: 1.0},
    ready="update.finished",
    meanings={
        1: GONE_WRONG,
        5: "another program has this runner's session at the forge",
        7: "version refused: the forge does not take {software} {version} any more",
    },
    refused=(7,),
    at_work=False,
    variables=VARIABLES,
)
PROGRAMS = {NAME: _PROGRAM}
