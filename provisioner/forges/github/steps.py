"""What GitHub tells a job in its environment, and what it vouches for in a job's identity token. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provisioner.domain.ci import CiClaims
from provisioner.domain.forge import ForgeKind
from provisioner.domain.step import Step

from .. import actions
from ..actions import event_variable as event_variable
from ..actions import id_token as id_token
from ..actions import run as run
from .events import fork_by

KIND = ForgeKind("github")
BASE = "https://github.com"


def step(environment: Mapping[str, str], event: Mapping[str, Any]) -> Step | None:
    return actions.step(KIND, environment, event)


def own_token(environment: Mapping[str, str]) -> str:
    """Source: GitHub, "GITHUB_TOKEN", 2026: it has no permission on runners, whatever `permissions` says."""
    return environment.get("GITHUB_TOKEN", "").strip() if actions.here(environment) else ""


def issuer(base: str) -> str:
    return "https://token.actions.githubusercontent.com" if base == BASE else ""


def claims(told: Mapping[str, str]) -> CiClaims:
    names = ("repository", "ref", "run_id")
    repository, ref, run_id = (told.get(name, "") for name in names)
    fork = fork_by(told.get("event_name", ""))
    return CiClaims(repository, ref, run_id, told.get("run_attempt", "1"), fork, told.get("check_run_id", ""), told)
