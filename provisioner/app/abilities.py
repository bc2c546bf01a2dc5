"""Which of the providers can more than the laws of all ask for."""

from __future__ import annotations

from collections.abc import Mapping

from provisioner.domain.ports import Abilities, HasConsole, HasEndings, HasHardLimit, HasLeftovers, Provider


def abilities_of(providers: Mapping[str, Provider]) -> Abilities:
    """A hard limit only where the settings ask for it."""
    return Abilities(
        consoles={name: one for name, one in providers.items() if isinstance(one, HasConsole)},
        endings={name: one for name, one in providers.items() if isinstance(one, HasEndings)},
        limits={name: one for name, one in providers.items() if isinstance(one, HasHardLimit) and one.hard_limit},
        leftovers={name: one for name, one in providers.items() if isinstance(one, HasLeftovers)},
    )
