"""What the cloud says of this machine's future: watched at its metadata service, and passed on at once.

Source: EC2 user guide, "Spot Instance interruption notices" (two minutes ahead; to be looked for every 5 s) and
"EC2 instance rebalance recommendations".
"""

from __future__ import annotations

import json

from .boot import metadata
from .duties import Turn
from .machine import Machine
from .say import say

_LOOK_S = 5.0
_TAKEN, _AT_RISK = "meta-data/spot/instance-action", "meta-data/events/recommendations/rebalance"


class Notices:
    """`run` is the duty. A notice stands until the machine is gone: none has ever been taken back."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._warned = False

    def run(self, turn: Turn) -> None:
        while not turn.over and not self._machine.notice:
            self.once()
            turn.wait(_LOOK_S)
        while not turn.over:
            turn.wait(3600.0)

    def once(self) -> None:
        url = self._machine.config.metadata_url
        told = _told(metadata(url, _TAKEN))
        if told:
            self._machine.notice = f"the cloud will {told.get('action', 'stop')} it at {told.get('time', 'once')}"
            say("machine.notice", notice=self._machine.notice)
            self._machine.news()
        elif not self._warned and _told(metadata(url, _AT_RISK)):
            self._warned = True
            say("machine.at_risk", why="the cloud recommends to move work elsewhere")


def _told(answer: object) -> dict[str, str]:
    """The object in it; whatever else came is no notice."""
    try:
        value = json.loads(answer) if isinstance(answer, bytes) else None
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
