"""What Anvil tells its jobs, and vouches for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provisioner.domain.ci import CiClaims
from provisioner.domain.forge import ForgeKind, Site, Target
from provisioner.domain.kinds import IdTokenAddress
from provisioner.domain.launching import CiRun
from provisioner.domain.step import Step

KIND = ForgeKind("anvil")


def event_variable(environment: Mapping[str, str]) -> str:
    return ""


def step(environment: Mapping[str, str], event: Mapping[str, Any]) -> Step | None:
    if "ANVIL" not in environment:
        return None
    site = Site(KIND, "https://anvil.example", environment["ANVIL_PLACE"])
    return Step(KIND, site, Target("commit", environment["ANVIL_SHA"]), environment["ANVIL_SHA"])


def run(environment: Mapping[str, str], step: Step) -> CiRun:
    return CiRun(step.site, (environment["ANVIL"],), f"run-{environment['ANVIL']}")


def own_token(environment: Mapping[str, str]) -> str:
    return ""


def id_token(environment: Mapping[str, str], audience: str) -> IdTokenAddress | None:
    return IdTokenAddress(f"https://anvil.example/id?for={audience}", "b", "") if "ANVIL" in environment else None


def issuer(base: str) -> str:
    return f"{base}/issuer"


def claims(told: Mapping[str, str]) -> CiClaims:
    return CiClaims(told.get("place", ""), told.get("branch", ""), told.get("strike", ""), "1", False, "", told)
