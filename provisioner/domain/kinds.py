"""What is known of each kind of forge before one is opened: data and pure functions, as its folder declares them.

`Kinds` is the table of them all. The composition root hands it to whatever has to tell them apart, so that another kind
is another folder and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .ci import Vouching
from .errors import InvalidRequest
from .forge import ForgeKind, Site, parse_site
from .launching import CiRun
from .program import Program
from .step import Step


@dataclass(frozen=True, slots=True, repr=False)
class IdTokenAddress:
    """Where a job's identity token is asked for, with `bearer`: JSON whose `value` it is. `url` or `bearer` "": it may
    not ask for any, and `hint` says what to do."""

    url: str
    bearer: str
    hint: str


class CiJobs(Protocol):
    """What a forge's CI tells the commands of its jobs, in their environment. Pure. Of an environment that is not its
    own it says nothing: None, or ""."""

    def event_variable(self, environment: Mapping[str, str]) -> str:
        """Names the file with the JSON of the event that began the run."""
        ...

    def step(self, environment: Mapping[str, str], event: Mapping[str, Any]) -> Step | None: ...
    def run(self, environment: Mapping[str, str], step: Step) -> CiRun:
        """`step` is what `step` said of the same environment."""
        ...

    def own_token(self, environment: Mapping[str, str]) -> str:
        """One that every job has, and that cannot make runners."""
        ...

    def id_token(self, environment: Mapping[str, str], audience: str) -> IdTokenAddress | None:
        """None, too, where jobs are given theirs without asking."""
        ...


@dataclass(frozen=True, slots=True)
class Declared:
    """One kind. `name` is what people call it; `opening` the module that is imported when one is opened (see
    forges.registry.Folder).

    `programs` are those that are its runners, by the name of the software: what `Forge.software` gives is one of them.
    `base` is the web address that is meant where none is given, `hosts` those that are known to be of this kind (.HOST:
    all below it). `tokens` are variables that hold a credential, the best first, and `prefixes` what credentials begin
    with. `own_token_hint` is said where a job's own token does not do. `imitated`: others' CI looks like its own, so
    that it is asked last whose an environment is. `vouching`: it signs tokens for its jobs, and `issuer_hint` is said
    where nobody can know who signs; `usual`: a policy for CI runs that names no kind is of it. `apps`: an App can open
    it, `redelivers`: it sends lost webhooks again, `scale_sets`: it keeps a queue of jobs for a pool, by the pool's one
    label."""

    kind: ForgeKind
    name: str
    opening: str
    jobs: CiJobs
    tokens: tuple[str, ...]
    programs: Mapping[str, Program]
    base: str = ""
    hosts: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    own_token_hint: str = ""
    imitated: bool = False
    vouching: Vouching | None = None
    issuer_hint: str = ""
    usual: bool = False
    apps: bool = False
    redelivers: bool = False
    scale_sets: bool = False


class Kinds:
    """All kinds that there are, by name."""

    def __init__(self, every: Iterable[Declared] = ()) -> None:
        self._by_kind: dict[str, Declared] = {one.kind: one for one in sorted(every, key=lambda one: one.kind)}
        self._hosts: dict[str, str] = {host: one.kind for one in self for host in one.hosts}

    def __iter__(self) -> Iterator[Declared]:
        return iter(self._by_kind.values())

    def __contains__(self, kind: object) -> bool:
        return kind in self._by_kind

    def of(self, kind: str) -> Declared:
        """Raises: InvalidRequest."""
        if kind not in self:
            raise InvalidRequest(f"{kind[:40]!r} is not a kind of forge", hint=", ".join(self._by_kind))
        return self._by_kind[kind]

    def program(self, kind: str, software: str) -> Program | None:
        """None where nothing is known of how it is run."""
        return self._by_kind[kind].programs.get(software) if kind in self else None

    def site(self, url: str, more: Mapping[str, str] | None = None) -> Site:
        """The site behind a web address; `more` as `parse_site`'s kinds, beside the hosts that everybody knows.

        Raises: InvalidRequest."""
        site = parse_site(url, {**self._hosts, **(more or {})})
        self.of(site.kind)
        return site

    def token(self, kind: str, environment: Mapping[str, str]) -> str:
        """The credential for a forge, from the environment alone. Raises: InvalidRequest."""
        names = ("RUNNER_FORGE_TOKEN", *self.of(kind).tokens)
        token = next((environment[name].strip() for name in names if environment.get(name, "").strip()), "")
        if not token:
            raise InvalidRequest(f"no token for {kind}", hint=f"set {' or '.join(names)} in the step's environment")
        if not all("!" <= letter <= "~" for letter in token):
            raise InvalidRequest(f"what {' or '.join(names)} holds is not a token", hint="it has blanks or odd letters")
        return token

    # What a CI step's environment says

    def event_variable(self, environment: Mapping[str, str]) -> str:
        """What names the file with the event's JSON; "" where there is none."""
        return next((said for one in self._in_turn() if (said := one.jobs.event_variable(environment))), "")

    def step(self, environment: Mapping[str, str], event: Mapping[str, Any] | None = None) -> Step | None:
        """None outside of a CI step that we know."""
        every = (one.jobs.step(environment, event or {}) for one in self._in_turn())
        return next((step for step in every if step is not None), None)

    def run(self, environment: Mapping[str, str]) -> CiRun | None:
        """None outside of a CI run that we know."""
        step = self.step(environment)
        return self.of(step.kind).jobs.run(environment, step) if step is not None else None

    def id_token(self, environment: Mapping[str, str], audience: str) -> IdTokenAddress | None:
        """None where there is nothing to ask."""
        every = (one.jobs.id_token(environment, audience) for one in self._in_turn())
        return next((found for found in every if found is not None), None)

    def _in_turn(self) -> Iterator[Declared]:
        """Were two to take an environment for theirs, the same one is believed each time."""
        return iter(sorted(self, key=lambda one: one.imitated))
