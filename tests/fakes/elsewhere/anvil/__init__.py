"""Anvil, a forge that nobody has: all that there is of it is this folder."""

from __future__ import annotations

from provisioner.domain.kinds import Declared

from . import steps
from .program import PROGRAMS

FORGE = Declared(
    kind=steps.KIND,
    name="Anvil",
    opening=f"{__name__}.opening",
    jobs=steps,
    tokens=("ANVIL_TOKEN",),
    programs=PROGRAMS,
    base="https://anvil.example",
    hosts=("anvil.example",),
    prefixes=("anv-",),
    vouching=steps,
    scale_sets=True,
)
