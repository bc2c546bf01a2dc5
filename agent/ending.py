"""How a machine ends: as its configuration says, and never a computer that we did not rent.

`poweroff` needs proof, which `boot` has: the instance's id is pinned when the metadata service first says that this
machine was given user-data with our own computed name in it, and must be the same at the end.
"""

from __future__ import annotations

from . import wire
from .config import Home
from .duties import Turn
from .say import say

_ASK_AGAIN_S = 5.0


class Identity:
    """The duty of pinning: `run` goes on asking until this boot has an answer."""

    def __init__(self, home: Home, config: wire.AgentConfig) -> None:
        self._home = home
        self._config = config

    def run(self, turn: Turn) -> None:
        from . import boot

        while not turn.over:
            known = boot.pin(self._home.path, self._config.metadata_url, self._config.name)
            turn.wait(3600.0 if known else _ASK_AGAIN_S)


def end_machine(home: Home, config: wire.AgentConfig) -> None:
    """The very last thing."""
    if config.on_end == "self-delete":
        say("machine.awaits_deletion", name=config.name)
    elif config.on_end == "poweroff":
        from . import boot

        boot.power_off(home.path, {"on_end": config.on_end, "metadata_url": config.metadata_url})
