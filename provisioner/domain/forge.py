"""Forges: where CI jobs come from and runners register. Their words, and the ports with their laws.

A *site* is where runners are registered and jobs wait: a repository, an organisation or group, or a whole forge. A
*runner* is the forge's record of one, named after our instance; it is never the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType, Protocol, runtime_checkable
from urllib.parse import urlsplit

from .errors import ForgeRefused, ForgeUnauthorized, InvalidRequest
from .job import RunnerSpec

PREFIX = "runner-"  # what the name of every runner of ours begins with: instances' names do
# The name of a kind's folder below provisioner/forges, which declares what it is (see kinds.py).
ForgeKind = NewType("ForgeKind", str)


@dataclass(frozen=True, slots=True)
class Site:
    """`base` is the forge's web address (https://github.com), `path` what follows: owner/repository, owner, or ""."""

    kind: ForgeKind
    base: str
    path: str

    @property
    def url(self) -> str:
        return f"{self.base}/{self.path}".rstrip("/")

    @property
    def host(self) -> str:
        return urlsplit(self.base).netloc

    @property
    def below(self) -> str:
        """Its base where that is below the root of its host, else ""."""
        return self.base if urlsplit(self.base).path else ""

    def __str__(self) -> str:
        return self.url


def parse_site(url: str, kinds: Mapping[str, str]) -> Site:
    """The site behind a web address. `kinds` says what the hosts are: host -> kind, or, for a forge that lives below
    its host's root, host/path -> kind, or, for all that lie below a host, .host -> kind.

    Raises: InvalidRequest.
    """
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(f"not a forge's address: {url[:200]!r}", hint="write https://HOST/OWNER/REPOSITORY")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidRequest("a forge's address holds no name, password, query or fragment", hint="leave them out")
    path = parts.path.strip("/").removesuffix(".git")
    root, kind = _forge_at(parts.netloc, path, kinds)
    kind = kind or _below(parts.hostname, kinds)
    if not kind:
        raise InvalidRequest(
            f"what kind of forge is {parts.netloc}?", hint="name it with --forge, or under `forges:` in the settings"
        )
    return Site(ForgeKind(kind), f"{parts.scheme}://{root}", path[len(root) - len(parts.netloc) :].strip("/"))


def site_at(url: str, kind: str, base: str = "") -> Site:
    """The site at `url` of a forge of this kind, which begins at `base`, or at the root of its host.

    Raises: InvalidRequest.
    """
    root = base.rstrip("/")
    if root and not f"{url}/".startswith(f"{root}/"):
        raise InvalidRequest(f"{url[:200]!r} is not at the forge {base[:200]!r}", hint="its address begins with that")
    return parse_site(url, {root.split("://")[-1] if root else url.split("://")[-1].partition("/")[0]: kind})


def runner_site(spec: RunnerSpec) -> Site:
    """Where it is registered. Raises: InvalidRequest."""
    return site_at(spec.url, spec.forge, spec.base)


def _forge_at(host: str, path: str, kinds: Mapping[str, str]) -> tuple[str, str]:
    """Where a forge begins (host, or host/path), and its kind, "" if nobody said; the longest that fits."""
    words = [host, *path.split("/")]
    for length in range(len(words), 0, -1):
        if kind := kinds.get("/".join(words[:length])):
            return "/".join(words[:length]), kind
    return host, ""


def _below(host: str, kinds: Mapping[str, str]) -> str:
    return next((kind for end, kind in kinds.items() if end.startswith(".") and host.endswith(end)), "")


@dataclass(frozen=True, slots=True, repr=False)
class ForgeCredentials:
    """Who we are at a forge: a token, or (GitHub) an app's id and its private key. `api`: the address of the API,
    where it is not the one that this kind of forge has."""

    token: str = ""
    app_id: str = ""
    private_key: str = ""
    api: str = ""

    def __repr__(self) -> str:
        """Nothing of what is inside: a representation ends up in logs."""
        return "ForgeCredentials()"


@dataclass(frozen=True, slots=True)
class Release:
    """Which version of a forge's runner program machines get, and the address it is fetched below: a mirror's, or
    "" for the publisher's own. A `version` of "" is the one that this controller was made with. `sha256`: what the
    file for each machine (x86_64, aarch64) has to be, whatever its publisher says; with none, the publisher is
    believed."""

    version: str = ""
    source: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)

    def pinned(self, machine: str) -> str:
        """What the file for it has to be, or "". Raises: ForgeRefused, only files for other machines are pinned."""
        if self.sha256 and machine not in self.sha256:
            told = f"the settings pin the runner program {self.version} for {', '.join(self.sha256)}, not for {machine}"
            raise ForgeRefused(told, hint="add it to `runner_sha256`")
        return self.sha256.get(machine, "")


@dataclass(frozen=True, slots=True)
class RunnerOrder:
    """A runner to register. `labels` are all the labels that it has; `group` "" is the forge's default;
    `longest_job_s`: what the forge ends a job of its after, where it can. `scale_set` (GitHub): it is one of the scale
    set that is named after its one label."""

    name: str
    labels: tuple[str, ...]
    group: str = ""
    longest_job_s: float | None = None
    scale_set: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Registration:
    """A registered runner. `secret` is what its program needs to be it, once: a JIT configuration or a token."""

    forge_id: str
    name: str
    secret: str

    def __repr__(self) -> str:
        return f"Registration({self.name!r}, {self.forge_id!r})"


@dataclass(frozen=True, slots=True)
class Runner:
    """The forge's record. `busy` None: the forge does not say."""

    forge_id: str
    name: str
    online: bool
    busy: bool | None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Software:
    """The forge's runner program for one system: a `version`, and where it is with the sha256 of its archive.

    `refused_at`: when the forge will begin to refuse it, if it has said so."""

    name: str
    version: str
    url: str
    sha256: str
    refused_at: datetime | None = None


class CiJobState(StrEnum):
    """It only ever moves forward."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class CiJob:
    """A job of a workflow or pipeline, as the forge tells of it. `key` is one job's at one forge, whatever repeats.

    `repository` is its path; `attempt` counts runs of the same job from 1; `fork`: it comes from somebody else's
    repository, so that nothing of it may be trusted. None: it was not told here (GitHub's webhooks of jobs do not say),
    and `Forge.job` tells."""

    id: str
    site: Site
    repository: str
    state: CiJobState
    labels: tuple[str, ...]
    created_at: datetime
    run_id: str = ""
    attempt: int = 1
    name: str = ""
    url: str = ""
    ref: str = ""
    fork: bool | None = None
    runner_name: str = ""
    conclusion: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        return self.site.base, self.id, self.attempt


@dataclass(frozen=True, slots=True)
class Given:
    """What is known of a job that a runner was given: where and in which run, the runner's name and its `forge_id`,
    and what its program called the job, as far as it said: not every forge's programs tell a job's full name."""

    repository: str
    run_id: str
    runner_name: str
    forge_id: str = ""
    job_name: str = ""


class Counted(list[Runner]):
    """A listing that says how many `calls` of its hour the forge counted for it: a page is one, and none where nothing
    is new."""

    def __init__(self, runners: Iterable[Runner], calls: int) -> None:
        super().__init__(runners)
        self.calls = calls


def serves(runner_labels: Sequence[str], job_labels: Sequence[str]) -> bool:
    """Whether a runner with these labels may be given a job with those: forges compare without regard to case."""
    have = {label.lower() for label in runner_labels}
    return all(label.lower() in have for label in job_labels)


class Forge(Protocol):
    """One forge, opened with credentials.

    - F1 `register` is idempotent on the name: called twice, one record, and the latest answer is the one that works.
      A runner that has a job is never replaced: RunnerBusy.
    - F2 a registered runner shows in `runners` within `visibility_s`, offline until its program has come.
    - F3 `runners` and `queued` are complete, every page of them, or raise; never a short list.
    - F4 `remove` is idempotent and absence is success; a runner that has a job stays: RunnerBusy. After success the
      forge gives it no job any more. An unclear answer is ForgeUnreachable: neither success nor refusal.
    - F5 `queued` shows every job of the site that waits for a runner of its owner's own, and no other.
    - F6 only ForgeError comes out, and no credential is in its text.
    - F7 a runner has the labels that were asked for and no others.
    - F8 cancelling the await leaves at most a record under the name that was asked for.
    - F9 `rerun` of a job whose run still runs is StillRunning; of one that was run again already, it does nothing.
    - F10 what the forge asks not to be asked for is not: once it has throttled, nothing is sent before that time is
      over. A share of what it allows is kept for removals: when no more than that is left, only they are sent, and
      everything else is ForgeThrottled without being asked.
    - F11 `taken` is the job of a run that a runner was given, however it ended, and though the runner is gone; None is
      that the forge does not say which.
    """

    @property
    def kind(self) -> ForgeKind: ...
    @property
    def visibility_s(self) -> float: ...
    async def register(self, site: Site, order: RunnerOrder) -> Registration: ...
    async def runners(self, site: Site) -> Sequence[Runner]:
        """Those whose name begins with PREFIX; Counted, where the forge counts what is asked in an hour."""
        ...

    async def remove(self, site: Site, forge_id: str, name: str) -> None:
        """`forge_id` may be empty when the answer to its registration was lost."""
        ...

    async def queued(self, site: Site) -> Sequence[CiJob]: ...
    async def job(self, site: Site, repository: str, job_id: str) -> CiJob | None:
        """None when there is no such job."""
        ...

    async def taken(self, site: Site, given: Given) -> CiJob | None: ...
    async def rerun(self, site: Site, job: CiJob) -> None: ...
    async def software(self, site: Site, system: str, machine: str) -> Software:
        """The program to run: `system` linux, `machine` x86_64 or aarch64."""
        ...

    async def close(self) -> None: ...


class Forges(Protocol):
    """All forges that this controller has rights at."""

    def of(self, site: Site) -> Forge:
        """Raises: ForgeUnauthorized, saying what to do, where nothing opens it."""
        ...

    def preinstalled(self, site: Site) -> tuple[str, ...]:
        """Folders in which an image may have the forge's program already."""
        ...


class ForgeKeyring(Protocol):
    """What commands hand over for forges, for as long as the controller lives; never written, nor in any message."""

    def wanted(self) -> dict[str, Any]:
        """By a forge's address: its `kind`, whether it is `opened` already, and the `variable` that would open it."""
        ...

    async def take(self, site: Site, credentials: ForgeCredentials) -> None:
        """They have to open the site. Raises: RequestError, having kept nothing."""
        ...


class NoForges:
    """What a controller without rights at any forge has."""

    def of(self, site: Site) -> Forge:
        raise ForgeUnauthorized(f"this controller has no rights at {site.host}", hint="put it under `forges:`")

    def preinstalled(self, site: Site) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Target:
    """What a comment is put on: a pull or merge request (`pr`), an issue or a commit; `ref` its number or sha."""

    what: str
    ref: str


@dataclass(frozen=True, slots=True)
class Comment:
    """`mine`: written by the account that asks."""

    id: str
    body: str
    url: str = ""
    mine: bool = False


class Conclusion(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


@runtime_checkable
class Reviews(Protocol):
    """Where people read what came of a job.

    - W1 `comments` is complete, every page of them, oldest first, or raises. W2 `add` and `edit` store the text as it
      was given, or raise; nothing is cut. W3 only ForgeError comes out. W4 `drop` is idempotent: absence is success.
      W5 a comment is `mine` only if whoever asks wrote it. Where a forge does not tell a program who it is there, those
      of all programs are; nobody else's ever is, whatever it says.
    """

    @property
    def longest(self) -> int:
        """Characters that a comment may have."""
        ...

    async def comments(self, site: Site, target: Target) -> Sequence[Comment]: ...
    async def add(self, site: Site, target: Target, body: str) -> Comment: ...
    async def edit(self, site: Site, target: Target, comment_id: str, body: str) -> Comment: ...
    async def drop(self, site: Site, target: Target, comment_id: str) -> None: ...
    async def check(self, site: Site, sha: str, name: str, conclusion: Conclusion, title: str, text: str) -> str:
        """A check run or commit status; its address."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook that was found to be genuine: `id` is the same however often it is delivered.

    Where it does not say which labels a waiting job has (GitLab), `job` is None, and the facts `repository` and `job`
    say what to ask `Forge.job` for."""

    id: str
    event: str
    job: CiJob | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
