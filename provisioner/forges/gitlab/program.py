"""How GitLab's runner program is run."""

from __future__ import annotations

from provisioner.domain.program import GONE_WRONG, Program

NAME = "gitlab-runner"
# The job would find the runner's own token in its environment, but for --env. Source: gitlab-runner, commands/single.go
# and common/config.go. The script before a build says it again for a job that fetches no sources.
_PROGRAM = Program(
    executable="gitlab-runner",
    argv=(
        *("run-single", "--url", "{base}", "--name", "{name}", "--executor", "shell", "--max-builds", "1"),
        *("--builds-dir", "{folder}/builds", "--cache-dir", "{folder}/cache", "--env", "CI_SERVER_TOKEN="),
        *("--pre-get-sources-script", "{tell_started}", "--pre-build-script", "{tell_started}"),
    ),
    secret="CI_SERVER_TOKEN",
    stop="TERM",
    drain="QUIT",
    meanings={1: GONE_WRONG},
    farewell="{base}/api/v4/runners",
    # Source: GitLab, "Predefined CI/CD variables reference".
    variables={
        "repository": ("CI_PROJECT_PATH",),
        "run": ("CI_PIPELINE_ID",),
        "job": ("CI_JOB_NAME",),
        "actor": ("GITLAB_USER_LOGIN",),
    },
)
PROGRAMS = {NAME: _PROGRAM}
