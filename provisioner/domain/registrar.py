"""What agents' routes need of forges: which program an attempt that is to be a runner runs, and as whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .forge import Registration, Site, Software
from .job import Attempt, Instance, Job


@dataclass(frozen=True, slots=True)
class RunnerProgram:
    """What an attempt that is to be a runner runs."""

    name: str
    site: Site
    labels: tuple[str, ...]
    software: Software
    preinstalled: tuple[str, ...] = ()


class Registrar(Protocol):
    """What the agents' routes need: which program an attempt is to run and, at the last moment, as whom."""

    async def program(self, job: Job, attempt: Attempt, instance: Instance) -> RunnerProgram:
        """Raises: ForgeError."""
        ...

    async def register(self, job: Job, attempt: Attempt) -> Registration:
        """Raises: ForgeError; Conflict when the attempt is to have no runner any more."""
        ...
