"""What CI systems set in every step, whole, so that a test stands where a step stands.

Source: GitHub, "Variables reference", and GitLab, "Predefined CI/CD variables reference", both 2026-11.
"""

from __future__ import annotations

from pathlib import Path

TOKEN = "ghp_not-to-be-seen-anywhere"  # for its forge

# All that GitHub sets beginning with RUNNER_, and what it says of the run. A test adds the files.
GITHUB = {
    "CI": "true",
    "GITHUB_ACTION": "__run",
    "GITHUB_ACTIONS": "true",
    "GITHUB_ACTION_REF": "",
    "GITHUB_ACTION_REPOSITORY": "",
    "GITHUB_ACTOR": "octocat",
    "GITHUB_ACTOR_ID": "583231",
    "GITHUB_API_URL": "https://api.github.com",
    "GITHUB_BASE_REF": "",
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_GRAPHQL_URL": "https://api.github.com/graphql",
    "GITHUB_HEAD_REF": "",
    "GITHUB_JOB": "launch",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_REF_NAME": "main",
    "GITHUB_REF_PROTECTED": "true",
    "GITHUB_REF_TYPE": "branch",
    "GITHUB_REPOSITORY": "acme/vision",
    "GITHUB_REPOSITORY_ID": "1296269",
    "GITHUB_REPOSITORY_OWNER": "acme",
    "GITHUB_REPOSITORY_OWNER_ID": "9919",
    "GITHUB_RETENTION_DAYS": "90",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_RUN_ID": "1658821493",
    "GITHUB_RUN_NUMBER": "3",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_SHA": "f" * 40,
    "GITHUB_TRIGGERING_ACTOR": "octocat",
    "GITHUB_WORKFLOW": "train",
    "GITHUB_WORKFLOW_REF": "acme/vision/.github/workflows/train.yml@refs/heads/main",
    "GITHUB_WORKFLOW_SHA": "f" * 40,
    "RUNNER_ARCH": "X64",
    "RUNNER_DEBUG": "1",
    "RUNNER_ENVIRONMENT": "github-hosted",
    "RUNNER_NAME": "GitHub Actions 1000000001",
    "RUNNER_OS": "Linux",
    "RUNNER_TEMP": "/not/to/be/used",
    "RUNNER_TOOL_CACHE": "/not/to/be/used",
    "RUNNER_TRACKING_ID": "github_6f5c0a7e-2c8e-4f3a-9a51-0d1f6d8f0c11",
    "RUNNER_USER": "not-me",
    "RUNNER_WORKSPACE": "/not/to/be/used",
    "RUNNER_PERFLOG": "/not/to/be/used",
    "RUNNER_ALLOW_RUNASROOT": "1",
    "RUNNER_LABELS": "not,ours",
    "RUNNER_REPO": "https://github.com/not/ours",
    "RUNNER_IDLE_TIMEOUT": "1",
}

# What act_runner and forgejo-runner set of the same. Source: their `run.go`, and that of act, 2026: what they track is
# empty, and the token is of one job.
ACTIONS_OF_GITEA = {
    **{name: value for name, value in GITHUB.items() if not name.startswith("RUNNER_")},
    "GITEA_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://git.example",
    "GITHUB_API_URL": "https://git.example/api/v1",
    "RUNNER_TRACKING_ID": "",
    "ACTIONS_RUNTIME_TOKEN": "eyJhbGciOiJIUzI1NiJ9.of-job-7",
}

GITLAB = {
    "CI": "true",
    "GITLAB_CI": "true",
    "CI_SERVER_URL": "https://gitlab.example",
    "CI_API_V4_URL": "https://gitlab.example/api/v4",
    "CI_PROJECT_PATH": "acme/vision",
    "CI_PIPELINE_ID": "7001",
    "CI_JOB_ID": "90001",
    "CI_JOB_NAME": "launch 1/2",
    "CI_COMMIT_SHA": "e" * 40,
}


def github(folder: Path) -> dict[str, str]:
    files = {name: str(folder / name.lower()) for name in ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY")}
    return GITHUB | files | {"GITHUB_WORKSPACE": str(folder), "GITHUB_PATH": str(folder / "path")}
