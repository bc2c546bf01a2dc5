"""What is watched of a world with pools while it lasts: how many machines there are, how long one that has nothing more
to do stays, and when the controller comes to know of each job.

A pool's machine is for one runner alone: nobody wants it any more once that has served its job, or was retired without
having one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from provisioner.domain.forge import CiJob
from provisioner.domain.policy import Policy
from provisioner.domain.pools import NAMED
from provisioner.domain.ports import Clock

from .simcloud import SimCloud, SimMachine
from .simforge import ForgeFaults, SimForge

MARGIN_S = 40.0  # arbitrary: for its last report, and for calls that fail or are waited for
_EVERY_S = 0.5


class Watched(Protocol):
    clock: Any
    cloud: SimCloud
    policy: Policy

    def violated(self, invariant: str, what: str) -> None: ...
    def able_from_s(self, machine: SimMachine) -> float:
        """Since when the controller and the machine's agent have been up, and able to hear one another."""
        ...


class PoolWatch:
    """`most` are machines of each pool at any time, by the cloud's own count; `longest_s` for how long one stayed that
    nobody wanted. `known_s` is when a job came to be known, `over_s` when a machine was not wanted any more, by its
    name, `retired_s` the same by the job of ours that it was for."""

    def __init__(self, world: Watched, forge: SimForge, caps: Mapping[str, int]) -> None:
        self._world = world
        self._forge = forge
        self._caps = caps
        self._clock: Clock = world.clock
        self.most: Counter[str] = Counter()
        self.longest_s = 0.0
        self.known_s: dict[str, float] = {}
        self.over_s: dict[str, float] = {}
        self.retired_s: dict[str, float] = {}
        self._calm_s = 0.0

    # What it is told

    def called(self, name: str, arguments: Sequence[Any]) -> None:
        """The controller has done that to its store."""
        now_s = self._clock.monotonic()
        for job in _told(name, arguments):
            self.known_s.setdefault(job.id, now_s)
        if name == "ask_cancel":
            self.retired_s.setdefault(arguments[0], now_s)

    def served(self, runner: str) -> None:
        self.over_s[self._machine_of(runner)] = self._clock.monotonic()

    def _machine_of(self, runner: str) -> str:
        """A second runner of a machine is called NAME-2."""
        return runner if runner in self._world.cloud.launched else runner.rpartition("-")[0]

    # What it looks at

    async def run(self) -> None:
        while True:
            self.look()
            await self._clock.sleep(_EVERY_S)

    def look(self) -> None:
        ours = (one for one in self._world.cloud.there if one.order.owner.startswith(NAMED))
        machines = [one for one in ours if not one.late]  # nobody could know of those
        there = Counter(machine.order.owner.split("/")[1] for machine in machines)
        for name, count in there.items():
            self.most[name] = max(self.most[name], count)
            if count > self._caps[name]:
                self._world.violated("max", f"{count} machines of {name}, which may have {self._caps[name]}")
        if self._forge.faults != ForgeFaults.none():
            self._calm_s = self._clock.monotonic()
        at_work = {self._machine_of(name) for name, record in self._forge.records.items() if record.job is not None}
        for machine in machines:
            if machine.alive and machine.name not in at_work:
                self._look_at(machine)

    def _look_at(self, machine: SimMachine) -> None:
        since_s = self.over_s.get(machine.name)
        if since_s is None and (asked_s := self.retired_s.get(machine.order.owner.partition("#")[2])) is not None:
            since_s = max(asked_s, self._calm_s)  # its record goes first, and that takes its forge
        if since_s is None:
            return
        able_s = max(since_s, machine.created_s, machine.deaf_until_s, self._world.able_from_s(machine))
        stayed_s = self._clock.monotonic() - able_s
        self.longest_s = max(self.longest_s, stayed_s)
        policy = self._world.policy
        if stayed_s > policy.drain_s + policy.terminate_again_s + MARGIN_S:
            self._world.violated("outlived", f"{machine.name} is there {stayed_s:.0f} s after its work was over")


def _told(name: str, arguments: Sequence[Any]) -> Iterator[CiJob]:
    """The CI jobs in a call of the store's: `note` is called so for runners as well."""
    if name == "take":
        for _, jobs in arguments[0]:
            yield from jobs
    elif name == "listed":
        yield from arguments[1]
    elif name == "note" and not isinstance(arguments[0], str):
        yield from arguments[0]
