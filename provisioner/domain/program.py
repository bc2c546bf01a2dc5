"""How a runner program is run on a machine: data that a forge's folder declares.

It goes to the agent within the order. The agent, which goes on when no controller answers, is given all of it, and
knows no forge by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GONE_WRONG = "the forge's runner ended with an error: its log says which"  # what most mean by an exit code of 1


@dataclass(frozen=True, slots=True)
class Program:
    """One program that takes a single job. What each field means, and which words in braces texts may have, is said in
    agent/programs.py. Signals are named without their SIG (INT). `variables` are those of a
    job's environment, by what they hold: repository, run, job, actor."""

    executable: str
    argv: tuple[str, ...]
    stop: str
    secret: str = ""
    secret_file: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    drain: str = ""
    again: Mapping[int, float] = field(default_factory=dict)
    ready: str = ""
    meanings: Mapping[int, str] = field(default_factory=dict)
    refused: tuple[int, ...] = ()
    at_work: bool = True
    farewell: str = ""
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
