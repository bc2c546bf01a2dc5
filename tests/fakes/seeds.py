"""Find for each protection an episode that breaks without it: `python -m tests.fakes.seeds [NAME ...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.fakes.episode import PROTECTIONS, Protection, episode
from tests.fakes.simstore import SimStore
from tests.fakes.simulation import Violation

_TRIED = 200


def breaks(protection: Protection, seed: int, store: SimStore) -> bool:
    """Whether this episode breaks what the protection is for without it, and nothing with it."""
    try:
        episode(seed, off=protection.name, stress=protection.stress, store=store)
    except Violation as error:
        return error.invariant == protection.breaks and (protection.is_the_clouds or holds(protection, seed, store))
    return False


def holds(protection: Protection, seed: int, store: SimStore) -> bool:
    try:
        episode(seed, stress=protection.stress, store=store)
    except Violation:
        return False
    return True


def main(names: Sequence[str]) -> None:
    store = SimStore()
    for protection in PROTECTIONS:
        if not names or protection.name in names:
            seed = next((seed for seed in range(_TRIED) if breaks(protection, seed, store)), None)
            print(protection.name, "none" if seed is None else f"seed {seed}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
