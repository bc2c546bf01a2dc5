"""The protocol between agent and controller: frozen dataclasses, `encode` and `decode`, one number.

Readers ignore fields they do not know; within one number fields are only ever added. tests/wire/v1 holds goldens.
Only the controller's agent routes and its bootstrap import this module from outside.

Routes (all under the agents' listener; a session token in ``Authorization: Bearer``, except for join):

- ``POST /agent/v1/join``    `Join` -> `Joined`
- ``POST /agent/v1/sync``    `Sync` -> `Ought`; held open up to `Sync.wait_s` while nothing new is to be said
- ``POST /agent/v1/log/JOB/NUMBER?offset=N``  body: `pack_log`; answers `LogAck`. An offset beyond what was received is
  answered with the offset to resume from (no error); bytes before it are skipped; bytes are never stored twice.
- ``POST /agent/v1/grants``  `GrantAsk` -> `Grants`
- ``PUT|GET /agent/v1/objects/KEY``  for object stores that cannot sign; only under the caller's own prefixes
- ``POST /agent/v1/manifest`` `Manifest` -> `{}`: 409 when the attempt is not the live one
- ``POST /agent/v1/readings`` `Readings` -> `{}`
- ``POST /agent/v1/runner``  `RunnerAsk` -> `RunnerGiven`: who a ``ci-runner`` attempt is to be
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from .codec import build as build
from .codec import decode as decode
from .codec import encode as encode
from .log_body import STDERR as STDERR
from .log_body import STDOUT as STDOUT
from .log_body import LogSpan as LogSpan
from .log_body import pack_log as pack_log
from .log_body import pack_spans as pack_spans
from .log_body import unpack_log as unpack_log
from .log_body import unpack_spans as unpack_spans
from .runner_messages import Program as Program
from .runner_messages import RunnerAsk as RunnerAsk
from .runner_messages import RunnerGiven as RunnerGiven
from .runner_messages import RunnerOrder as RunnerOrder
from .runner_messages import RunnerState as RunnerState

PROTOCOL = 1
AGENT_PATH = "/agent/v1/agent-{sha256}.pyz"  # where a controller has the agent; no session is needed to read it
LEFT = "left.json"  # what an agent calls, in the object store, the manifest that it could not hand over


@dataclass(frozen=True)
class AgentConfig:
    """What a machine is given at launch. Durations in seconds; the join token is its only secret, and single-use.

    `gpu_*` is what it was rented for: it takes no work before it has been found to have that. `user` is whom jobs run
    as, made if need be; "" for whoever runs the agent."""

    instance: str
    name: str
    urls: list[str]
    join_token: str
    on_end: str
    provider: str = ""
    ca_pem: str = ""
    boot_deadline_s: float = 900.0
    idle_s: float = 600.0
    lifetime_s: float = 43200.0
    silence_s: float = 1800.0
    orphan_s: float = 3600.0
    hold_unsent_s: float = 3600.0
    poll_s: float = 25.0
    answer_s: float = 30.0
    spool_limit_bytes: int = 256 * 2**20
    metadata_url: str = "http://169.254.169.254"
    gpu_name: str = ""
    gpu_count: int = 0
    gpu_memory_gb: float = 0.0
    user: str = ""
    protocol: int = PROTOCOL


@dataclass(frozen=True)
class Join:
    """The same (token, nonce) gets the same session for ever; another nonce is refused."""

    instance: str
    token: str
    nonce: str
    boot_id: str = ""
    protocol: int = PROTOCOL
    machine: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Joined:
    session: str
    protocol: int = PROTOCOL


@dataclass(frozen=True)
class GpuEvent:
    """Something that befell a GPU while an attempt ran. `what` is xid or thermal; with `gpu` and `code` (the Xid's
    number; hardware or software) it says which: there is one of each an attempt."""

    what: str
    gpu: str = ""
    code: str = ""
    message: str = ""

    @property
    def kind(self) -> tuple[str, str, str]:
        return self.what, self.gpu, self.code


@dataclass(frozen=True)
class AttemptState:
    """One attempt as the agent sees it.

    `phase`: starting, setup, running, syncing, ended. `why` is a code of the controller's `Why` when it ended for any
    other reason than its command's exit. `results_complete`: manifest accepted, or nothing to sync.
    """

    job: str
    number: int
    phase: str
    exit_code: Optional[int] = None
    why: str = ""
    detail: str = ""
    log_size: int = 0
    log_complete: bool = False
    results_complete: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    gpu_events: list[GpuEvent] = field(default_factory=list)
    runner: Optional[RunnerState] = None


@dataclass(frozen=True)
class HandOver:
    """From its acknowledgement on no controller looks after the machine, and it ends by itself: when the runner of this
    attempt has ended, which is asked to once it has waited `idle_s` since then without a job or has had its job for
    `job_s`; or once the machine has lived for `lifetime_s`, and `grace_s` more for the runner to end."""

    job: str
    number: int
    idle_s: float
    lifetime_s: float
    job_s: float
    grace_s: float


@dataclass(frozen=True)
class HandedOver:
    """What is on the machine's disk of it: `order` as it came, `runner` that was there and online, `on_end` what will
    end the machine."""

    order: HandOver
    runner: str
    on_end: str


@dataclass(frozen=True)
class Sync:
    """What is. `seen` is the `Ought.version` that the agent has acted on: an equal one is waited out. `sequence` grows
    with every message of one boot (nanoseconds of its boot clock will do); 0 says nothing about order. `unhealthy_code`
    is a code of the controller's `Why` when it is not the hardware: script-failed. `handed_over` acknowledges
    `Ought.hand_over`: it is on the disk."""

    boot_id: str
    seen: int = -1
    wait_s: float = 0.0
    healthy: bool = True
    unhealthy_why: str = ""
    unhealthy_code: str = ""
    drained: bool = False
    notice: str = ""
    unsent_bytes: int = 0
    attempts: list[AttemptState] = field(default_factory=list)
    sequence: int = 0
    handed_over: Optional[HandedOver] = None
    protocol: int = PROTOCOL


@dataclass(frozen=True)
class InputOrder:
    source: str
    to: str


@dataclass(frozen=True)
class Order:
    """One attempt to run. `run` is a list of words, or one string for `sh -c`. Secrets travel here and only here, but
    for a runner's own, which is asked for at the last moment."""

    job: str
    number: int
    run: Any
    setup: str = ""
    env: dict[str, str] = field(default_factory=dict)
    shell_env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    workspace: str = ""
    workspace_size: int = 0
    inputs: list[InputOrder] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    outputs_every_s: float = 30.0
    checkpoint_path: str = ""
    checkpoint_every_s: float = 300.0
    checkpoint: Optional[dict[str, Any]] = None
    timeout_s: Optional[float] = None
    grace_s: float = 30.0
    tty: bool = False
    sudo: bool = True
    log_limit_bytes: int = 10 * 2**30
    runner: Optional[RunnerOrder] = None


@dataclass(frozen=True)
class AttemptOught:
    """What ought to be of one attempt that the agent has or should have.

    `cancel`: "" (go on), "kindly" (signal, grace) or "now". `forget`: the controller has all it needs; delete it.
    """

    job: str
    number: int
    order: Optional[Order] = None
    cancel: str = ""
    forget: bool = False
    log_received: int = 0
    log_safe: int = 0


@dataclass(frozen=True)
class Ought:
    """What ought to be. An attempt the agent runs that is not listed here is not wanted: stop it at once.

    `end`: leave now, as `on_end` says. `poll_s`: how long the next sync may be held. `hand_over`: from now on look
    after yourself.
    """

    version: int
    attempts: list[AttemptOught] = field(default_factory=list)
    drain: bool = False
    end: bool = False
    poll_s: float = 25.0
    urls: list[str] = field(default_factory=list)
    hand_over: Optional[HandOver] = None
    protocol: int = PROTOCOL


@dataclass(frozen=True)
class LogAck:
    """`received`: bytes stored; `safe`: bytes that will survive; only up to `safe` may the spool be freed."""

    received: int
    safe: int
    refused: str = ""


@dataclass(frozen=True)
class GrantItem:
    """`key`: path below the attempt's prefix (`put`), or a full key or URL (`get`)."""

    key: str
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class GrantAsk:
    """`area`: `results`, `checkpoints`, `workspace` or `inputs`. `op`: `put`, `get`, `list` (inputs), `complete`,
    `standing`.

    `complete` finishes multipart uploads: `uploads` is a list of {key, upload_id, parts: [etag, ...]}. `list` takes
    one source and answers one grant an object: its full URL as `key`, `size`, and as `sha256` whatever tells one
    content from another, if anything does; with a `url` if it can be read at once, else `get` is asked for it.
    `standing` answers with `post`, for `expires_s`, or without where the store has no such right.
    """

    job: str
    number: int
    area: str
    op: str
    items: list[GrantItem] = field(default_factory=list)
    uploads: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Grant:
    """One request to make. A `url` that starts with "/" is relative to the controller and needs the session token.

    `exists`: the object is already there with this size; nothing to send. With `parts`, PUT each slice of `part_size`
    bytes to its URL, keep the ETags, then ask `complete` with `upload_id`.
    """

    key: str
    url: str = ""
    method: str = "PUT"
    headers: dict[str, str] = field(default_factory=dict)
    exists: bool = False
    size: int = 0
    sha256: str = ""
    part_size: int = 0
    parts: list[str] = field(default_factory=list)
    upload_id: str = ""


@dataclass(frozen=True)
class Grants:
    """`post` answers `standing`: a right for the whole prefix ({url, fields, prefix}), where the store signs one."""

    grants: list[Grant] = field(default_factory=list)
    expires_s: float = 900.0
    post: Optional[dict[str, Any]] = None


@dataclass(frozen=True)
class FileEntry:
    """`path` relative with "/" separators; `mode` the permission bits; `key` where its bytes are, below the prefix."""

    path: str
    size: int
    sha256: str
    key: str
    mode: int = 0o644


@dataclass(frozen=True)
class Manifest:
    """`area` results or checkpoints. `final`: no later manifest of this attempt will follow. `sequence` from 1.

    `refused` names what was matched but not taken, each with its reason.
    """

    job: str
    number: int
    area: str
    sequence: int
    final: bool
    files: list[FileEntry] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Readings:
    """`rows`: [seconds ago, {"cpu": 0..1, "memory_bytes": n, "disk_bytes": n, "gpus": [...]}]; `job` "" when idle."""

    job: str
    number: int
    rows: list[list[Any]] = field(default_factory=list)
