"""Gitea and Forgejo: one family, whose APIs have drifted apart where runners and jobs are concerned."""

from __future__ import annotations

from provisioner.domain.kinds import Declared

from . import steps

FORGE = Declared(
    kind=steps.KIND,
    name="Gitea",
    opening=f"{__name__}.opening",
    jobs=steps,
    tokens=("GITEA_TOKEN", "GITHUB_TOKEN"),
    hosts=("gitea.com", "codeberg.org"),
)
