"""GitLab: gitlab.com and self-managed, a project, a group or the whole instance as a site."""

from __future__ import annotations

from provisioner.domain.kinds import Declared

from . import steps
from .program import PROGRAMS

FORGE = Declared(
    kind=steps.KIND,
    name="GitLab",
    opening=f"{__name__}.opening",
    jobs=steps,
    tokens=("GITLAB_TOKEN",),
    programs=PROGRAMS,
    base=steps.BASE,
    hosts=("gitlab.com",),
    prefixes=("glpat",),
    vouching=steps,
)
