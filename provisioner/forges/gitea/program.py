"""How Gitea's and Forgejo's runner programs are run. What they are given is their own registration, not the right to
make one."""

from __future__ import annotations

from provisioner.domain.program import GONE_WRONG, Program

from ..actions import HOOKS, VARIABLES

GITEA, FORGEJO = "act_runner", "forgejo-runner"
_SETTINGS = {
    "runner": {"file": ".runner", "capacity": 1, "envs": HOOKS},
    "host": {"workdir_parent": "{folder}/_work"},
}

# Source: gitea.com/gitea/runner, internal/app/cmd (daemon.go), internal/pkg/config/config.example.yaml and
# act/runner/job_hooks.go, which older versions do not have.
_GITEA = Program(
    executable=GITEA,
    argv=("--config", "{settings}", "daemon"),
    secret_file=".runner",
    stop="TERM",
    settings=_SETTINGS,
    meanings={1: GONE_WRONG},
    variables=VARIABLES,
)

# It has no hooks. Source: code.forgejo.org/forgejo/runner, internal/app/cmd (cmd.go, job.go), of version 12; not tried
# with the program itself.
_FORGEJO = Program(
    executable=FORGEJO,
    argv=("--config", "{settings}", "one-job", "--wait"),
    secret_file=".runner",
    stop="TERM",
    settings=_SETTINGS,
    meanings={1: GONE_WRONG},
    variables=VARIABLES,
)

PROGRAMS = {GITEA: _GITEA, FORGEJO: _FORGEJO}
