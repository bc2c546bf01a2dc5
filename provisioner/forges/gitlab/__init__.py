"""GitLab: gitlab.com and self-managed, a project, a group or the whole instance as a site."""

from __future__ import annotations

from provisioner.domain.kinds import Declared

from . import steps

FORGE = Declared(
    kind=steps.KIND,
    name="GitLab",
    opening=f"{__name__}.opening",
    jobs=steps,
    tokens=("GITLAB_TOKEN",),
    base=steps.BASE,
    hosts=("gitlab.com",),
    prefixes=("glpat",),
    vouching=steps,
)
