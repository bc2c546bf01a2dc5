"""GitHub: github.com, Enterprise Cloud with data residency (ghe.com) and Enterprise Server."""

from __future__ import annotations

from provisioner.domain.kinds import Declared

from . import steps
from .program import PROGRAMS

FORGE = Declared(
    kind=steps.KIND,
    name="GitHub",
    opening=f"{__name__}.opening",
    jobs=steps,
    tokens=("GITHUB_TOKEN",),
    programs=PROGRAMS,
    base=steps.BASE,
    hosts=("github.com", ".ghe.com"),
    prefixes=("gh",),
    own_token_hint=(
        "use a token with the permission Administration (write) of the repository, in RUNNER_FORGE_TOKEN; a GitHub "
        "App, under `forges:` of the settings; or a controller, by RUNNER_SERVER, which needs no token in the workflow"
    ),
    imitated=True,
    vouching=steps,
    issuer_hint="for GitHub Enterprise Server it is https://HOST/_services/token",
    usual=True,
    apps=True,
    redelivers=True,
    scale_sets=True,
)
