"""Outputs on their way up: now and then while the job runs, and once more, whole, when it has ended.

Each time: gather what the patterns match, send the objects that are new, then the manifest. The last manifest is final;
an attempt whose outputs could not be stored stays `syncing` and tries again.
"""

from __future__ import annotations

from .attempt import Attempt
from .config import boottime
from .duties import Turn
from .gather import Found, Gatherer
from .link import Backoff, Refused, Unreachable
from .machine import Machine
from .say import say
from .standing import Standing
from .upload import Changed, Uploader

_FACTS_LINES = 100


class Results:
    """`run` is the duty."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._gatherers: dict[str, Gatherer] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._due: dict[str, float] = {}
        self._sent: dict[str, list[tuple[str, str]]] = {}
        self._standing: dict[str, Standing] = {}

    def run(self, turn: Turn) -> None:
        while not turn.over:
            attempts = [attempt for attempt in self._machine.attempts if _wants(attempt)]
            for attempt in attempts:
                self.once(attempt)
            self._forget({attempt.key for attempt in attempts})
            left = [self._due[attempt.key] - boottime() for attempt in attempts if _wants(attempt)]
            turn.wait(max(0.01, min(left, default=60.0)))

    def once(self, attempt: Attempt) -> None:
        """What is due of one attempt."""
        now, final = boottime(), attempt.exit is not None
        uploader = self._uploader(attempt)
        retrying = attempt.key in self._backoffs
        due = self._due.setdefault(attempt.key, now + attempt.order.outputs_every_s)
        if now < due and not (final and not retrying):
            return
        try:
            self._sync(attempt, uploader, final)
            self._backoffs.pop(attempt.key, None)
            self._due[attempt.key] = boottime() + attempt.order.outputs_every_s
        except Changed:
            self._due[attempt.key] = boottime() + (0.2 if final else attempt.order.outputs_every_s)
        except (Unreachable, OSError) as error:
            say("results.not_stored", attempt=attempt.key, error=str(error))
            self._due[attempt.key] = boottime() + self._backoffs.setdefault(attempt.key, Backoff(0.2, 20.0)).next()
        except Refused as error:
            self._refused(attempt, final, error)

    def _uploader(self, attempt: Attempt) -> Uploader:
        """With the standing right renewed when it is time."""
        standing = self._standing.setdefault(attempt.key, Standing())
        uploader = Uploader(self._machine.link, attempt.order.job, attempt.order.number, "results", standing)
        try:
            uploader.stand()
        except Refused as error:
            standing.postpone()
            say("results.no_standing_right", attempt=attempt.key, error=str(error))
        return uploader

    def _sync(self, attempt: Attempt, uploader: Uploader, final: bool) -> None:
        gatherer = self._gatherers.setdefault(attempt.key, Gatherer(attempt.workspace))
        found = gatherer.outputs(attempt.order.outputs)
        listed = [(file.path, file.sha256) for file in found.files]
        if not final and (not listed or self._sent.get(attempt.key) == listed):
            return
        uploader.send(found.files, settled=final)
        sequence = attempt.done.get("results_sequence", 0) + 1
        attempt.note(results_sequence=sequence)
        uploader.manifest(sequence, final, found.files, found.refused)
        self._sent[attempt.key] = listed
        if final:
            self._complete(attempt, found)

    def _complete(self, attempt: Attempt, found: Found) -> None:
        about = {"files": len(found.files), "bytes": sum(file.size for file in found.files)}
        attempt.note(results="complete", facts={"results": about, "refused": found.refused[:_FACTS_LINES]})
        self._machine.duties.wake("tend")

    def _refused(self, attempt: Attempt, final: bool, error: Refused) -> None:
        say("results.refused", attempt=attempt.key, error=str(error))
        self._due[attempt.key] = boottime() + attempt.order.outputs_every_s
        if final:
            attempt.note(results=f"refused: {error}")
            self._machine.duties.wake("tend")

    def _forget(self, kept: set[str]) -> None:
        for table in (self._gatherers, self._backoffs, self._due, self._sent, self._standing):
            for key in [key for key in table if key not in kept]:
                del table[key]


def _wants(attempt: Attempt) -> bool:
    started = attempt.mark is not None and attempt.phase in ("running", "syncing")
    return bool(attempt.order.outputs) and started and "results" not in attempt.done and not attempt.forget
