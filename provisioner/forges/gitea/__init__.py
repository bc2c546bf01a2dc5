"""Gitea and Forgejo: one family, whose APIs have drifted apart where runners and jobs are concerned."""

from __future__ import annotations

from provisioner.domain.kinds import Declared

from . import steps
from .program import PROGRAMS

FORGE = Declared(
    kind=steps.KIND,
    name="Gitea",
    opening=f"{__name__}.opening",
    jobs=steps,
    tokens=("GITEA_TOKEN", "GITHUB_TOKEN"),
    programs=PROGRAMS,
    hosts=("gitea.com", "codeberg.org"),
)
