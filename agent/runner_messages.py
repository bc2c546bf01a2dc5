"""The protocol's messages about attempts that are forges' runners; `wire` has them, and says how they go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Program:
    """How a forge's runner program is run; `programs.Program` says what each field means. Signals are named without
    their SIG (INT), exit codes are keys of text ("7"). Of `variables` (repository, run, job, actor) each is in the
    first of its environment variables that is set."""

    executable: str
    argv: list[str]
    stop: str
    secret: str = ""
    secret_file: str = ""
    env: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    drain: str = ""
    again: dict[str, float] = field(default_factory=dict)
    ready: str = ""
    meanings: dict[str, str] = field(default_factory=dict)
    refused: list[int] = field(default_factory=list)
    at_work: bool = True
    farewell: str = ""
    variables: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunnerOrder:
    """The forge's runner that an attempt is to be. `software_*` is its program: used as it is if `preinstalled` has
    that version, else fetched and compared with its sha256. `url` is the site, `base` the forge's own address.
    `program` is a `Program`, read when the attempt is prepared: one that cannot be is the end of that attempt alone."""

    forge: str
    name: str
    url: str
    base: str
    labels: list[str]
    software: str
    version: str
    software_url: str
    sha256: str
    preinstalled: list[str] = field(default_factory=list)
    program: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunnerAsk:
    job: str
    number: int


@dataclass(frozen=True)
class RunnerGiven:
    """`secret` is what the forge's program needs to be this runner, once."""

    name: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class RunnerState:
    """What an attempt's runner does, from its program's hooks: `phase` waiting, busy or done; one that is busy at its
    end was cut short. `idle_s` seconds since it began to wait; `jobs` taken so far; `job` what the hook said of the one
    in hand or the last (repository, run)."""

    phase: str
    idle_s: float = 0.0
    jobs: int = 0
    job: dict[str, str] = field(default_factory=dict)
