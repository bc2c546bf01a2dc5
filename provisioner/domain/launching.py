"""Which CI run a launch belongs to, and the names that follow from that: the same again when the step is tried again.

Pure: the environment comes in. Names are made so that no other run's can be the same, because whatever asks for a
runner's labels may get it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import InvalidRequest
from .forge import Site

_OWN = 8  # hexadecimal digits that tell a launch's label from others of its run


@dataclass(frozen=True, slots=True)
class CiRun:
    """`words` tell this job of this attempt of this run from every other one, and unless `legs_differ` is false from
    the other legs of its matrix. `output` and `summary`: the files that the forge reads a step's outputs and summary
    from; `dotenv`: the one that it can be told to read variables from."""

    site: Site
    words: tuple[str, ...]
    label: str
    api: str = ""
    output: str = ""
    summary: str = ""
    dotenv: str = ""
    legs_differ: bool = True


@dataclass(frozen=True, slots=True)
class Names:
    """Of one launch: `label` is its own alone; `key` begins the ids of its jobs."""

    key: str
    label: str

    def job(self, index: int, turn: int = 1) -> str:
        """Of its `index`th runner, from 1; in a later `turn` when the one of before has ended."""
        return f"ci-{self.key}-{index}" + (f"-{turn}" if turn > 1 else "")


def names_of(run: CiRun | None, what: str, chance: str, *, named: bool = False) -> Names:
    """`what` tells launches of one job of a run apart, and is `named` by whoever wrote the job; `chance`, random
    hexadecimal, those that have no run.

    Raises: InvalidRequest where two legs of a matrix could have the same."""
    if run is not None and not (run.legs_differ or named):
        why = "nothing tells this job from other legs of a matrix: its RUNNER_TRACKING_ID and ACTIONS_RUNTIME_TOKEN are"
        raise InvalidRequest(f"{why} empty", hint="give --name, and another one in each leg")
    if run is None:
        return Names(chance, f"run-{chance}")
    key = hashlib.sha256("\n".join((run.site.url, *run.words, what)).encode()).hexdigest()[:16]
    return Names(key, f"{run.label}-{key[:_OWN]}")


def is_of(run: CiRun, url: str, labels: Sequence[str]) -> bool:
    """Whether any job of that run launched the runner that serves there and has these labels, its own the first.
    Numbers of runs are each forge's own."""
    own = labels[0] if labels else ""
    same = own.startswith(f"{run.label}-") and re.fullmatch(f"[0-9a-f]{{{_OWN}}}", own[len(run.label) + 1 :])
    return bool(same) and url.startswith(f"{run.site.base}/")


def parse_labels(text: str) -> tuple[str, ...]:
    """Raises: InvalidRequest."""
    labels = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if any(any(letter.isspace() for letter in label) for label in labels):
        raise InvalidRequest(f"labels: {text[:80]!r} has a blank in a label", hint="write a,b")
    return labels
