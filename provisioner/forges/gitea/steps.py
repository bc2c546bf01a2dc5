"""What Gitea and Forgejo tell a job in its environment: GitHub's words, and a mark of their own. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provisioner.domain.forge import ForgeKind
from provisioner.domain.step import Step

from .. import actions
from ..actions import event_variable as event_variable
from ..actions import id_token as id_token
from ..actions import run as run

KIND = ForgeKind("gitea")


def step(environment: Mapping[str, str], event: Mapping[str, Any]) -> Step | None:
    ours = any(environment.get(name) == "true" for name in ("GITEA_ACTIONS", "FORGEJO_ACTIONS"))
    return actions.step(KIND, environment, event) if ours else None


def own_token(environment: Mapping[str, str]) -> str:
    return ""
