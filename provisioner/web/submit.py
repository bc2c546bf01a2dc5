"""A job as it came in, to a job that is stored, or a refusal that says what is wrong; nothing is kept on refusal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from provisioner.domain.budget import bound
from provisioner.domain.ci import granted
from provisioner.domain.errors import Conflict, Forbidden, Impossible, InvalidRequest, NotFound, OverBudget
from provisioner.domain.forge import runner_site
from provisioner.domain.job import CheckpointSpec, InputSpec, Job, JobPhase, JobSpec, Need, Workspace
from provisioner.domain.kinds import Kinds
from provisioner.domain.place import Ladder, ceilings
from provisioner.domain.pools import NAMED
from provisioner.domain.span import too_long

from .auth import Caller
from .runner_spec import as_in_pool, check_runner
from .services import Services
from .shape import adapter

JOB_ID = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_SOURCES = ("s3://", "gs://", "az://")
_SHORTEST_SECRET = 6  # characters: shorter ones cannot be masked without masking half the log
_MOST_RETRIES = 100  # arbitrary
_LONGEST_NAME = 200  # characters; arbitrary
_LADDER_LINES = 5


async def submit(services: Services, caller: Caller, job_id: str, spec: JobSpec, handed: Mapping[str, str]) -> Job:
    """Check everything, then store. Raises: RequestError."""
    if not JOB_ID.fullmatch(job_id):
        raise InvalidRequest(f"not a job id: {job_id[:80]!r}", hint="small letters, digits and dashes, 3 to 63")
    spec = _granted(services, caller, spec)
    check(spec, services.kinds, local=caller.local)
    await _check_secrets(services, caller.owner, spec, handed)
    await _check_workspace(services, spec.workspace)
    ladder: Ladder = await services.desk.ladder(spec.need)
    check_known(ladder)
    if ladder.over_budget:
        raise OverBudget("every offer that could run this costs more than the cap by itself", hint=_summary(ladder))
    if ladder.impossible:
        raise Impossible("no offer known here could ever run this", hint=_summary(ladder))
    _check_budget(services, spec, ladder)
    _check_outlived(services, spec, ladder)
    job = Job(job_id, caller.owner, spec, JobPhase.QUEUED, services.clock.now())
    for name in spec.secrets:
        if name in handed:
            await services.store.records.put_secret(caller.owner, name, handed[name], job_id=job_id)
    stored = await services.store.jobs.submit(job)
    services.desk.poke()
    return stored


def _granted(services: Services, caller: Caller, spec: JobSpec) -> JobSpec:
    """A CI run's job is what its policy grants; nobody else's has an origin. Raises: InvalidRequest, Forbidden."""
    spec = as_in_pool(spec, services.demand.pools)
    if caller.session is None:
        return replace(spec, origin=None)
    if spec.runner is None or services.ci is None:
        raise Forbidden("a CI run launches runners and nothing else", hint="`runner launch`")
    check_runner(spec, services.kinds)
    return granted(services.ci.granted(caller.session), caller.session, spec, runner_site(spec.runner))


def check_known(ladder: Ladder) -> None:
    """Raises: InvalidRequest for a provider that this controller does not have."""
    if ladder.unknown:
        known = ", ".join(ladder.known) or "none"
        raise InvalidRequest(f"no provider {ladder.unknown[0][:40]!r} here", hint=f"known: {known}")


async def already(services: Services, caller: Caller, job_id: str) -> Job | None:
    """The job of exactly this id, when a call is made again. Raises: Conflict when it is another owner's."""
    try:
        job = await services.store.jobs.get(job_id)
    except (NotFound, InvalidRequest):
        return None
    if job.id != job_id:
        return None
    if job.owner != caller.owner or not caller.sees(job):
        raise Conflict(f"{job_id} is a job of somebody else", hint="make a new id")
    return job


def read_spec(raw: Mapping[str, Any]) -> JobSpec:
    """Raises: InvalidRequest naming the field."""
    from pydantic import ValidationError

    _check_known(raw, JobSpec, "spec")
    for name, kind in (("need", Need), ("workspace", Workspace), ("checkpoint", CheckpointSpec)):
        if isinstance(raw.get(name), Mapping):
            _check_known(raw[name], kind, f"spec.{name}")
    try:
        spec: JobSpec = adapter(JobSpec).validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["spec", *(str(part) for part in first["loc"])])
        raise InvalidRequest(f"{where}: {first['msg']}") from error
    return spec


def check(spec: JobSpec, kinds: Kinds, *, local: bool) -> None:
    """What types cannot say. `local`: the caller may read this controller's own files. Raises: InvalidRequest."""
    words = (spec.run,) if isinstance(spec.run, str) else spec.run
    if spec.kind == "ci-runner":
        check_runner(spec, kinds)
    elif spec.kind != "command":
        raise InvalidRequest(f"spec.kind: {spec.kind!r} is not a kind of job", hint="command or ci-runner")
    elif spec.runner is not None:
        raise InvalidRequest("spec.runner: only a ci-runner has one", hint="leave it out, or set spec.kind")
    elif not words or not words[0].strip():
        raise InvalidRequest("spec.run: no command was given")
    if len(spec.name) > _LONGEST_NAME or not spec.name.isprintable():
        raise InvalidRequest(
            f"spec.name: {spec.name[:80]!r} is not a name", hint=f"at most {_LONGEST_NAME} characters, all printable"
        )
    if spec.name.startswith(NAMED):
        raise InvalidRequest(f"spec.name: only a pool's own runners are called {NAMED}NAME", hint="choose another name")
    if any("\0" in text for text in (*words, spec.setup, *spec.env.values(), *spec.params.values())):
        raise InvalidRequest("spec: a NUL byte cannot be in a command or a variable")
    for what, names in (("env", spec.env), ("params", spec.params), ("secrets", spec.secrets)):
        for name in names:
            if not _NAME.fullmatch(name):
                raise InvalidRequest(f"spec.{what}: {name[:80]!r} is not a name for a variable")
    _check_numbers(spec)
    for index, pattern in enumerate(spec.outputs):
        _check_inside(f"spec.outputs[{index}]", pattern)
    if spec.checkpoint is not None:
        _check_inside("spec.checkpoint.path", spec.checkpoint.path)
    for index, one in enumerate(spec.inputs):
        _check_input(f"spec.inputs[{index}]", one, local)


def _check_numbers(spec: JobSpec) -> None:
    if not 0 <= spec.retries <= _MOST_RETRIES:
        raise InvalidRequest(f"spec.retries: {spec.retries} is not between 0 and {_MOST_RETRIES}")
    positive = {
        "timeout_s": spec.timeout_s,
        "max_lifetime_s": spec.max_lifetime_s,
        "log_limit_bytes": spec.log_limit_bytes,
        "checkpoint.every_s": spec.checkpoint.every_s if spec.checkpoint else None,
        "need.max_price": None if spec.need.max_price is None else float(spec.need.max_price) or 1e-9,
    }
    for name, value in positive.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise InvalidRequest(f"spec.{name}: {value} is not above zero")
    need = spec.need
    for name, size in (("cpus", need.cpus), ("memory_gib", need.memory_gib), ("disk_gib", need.disk_gib)):
        if not (size >= 0 and math.isfinite(size)):
            raise InvalidRequest(f"spec.need.{name}: {size} is below zero")
    idle_s = spec.idle_timeout_s
    if idle_s is not None and not (idle_s >= 0 and math.isfinite(idle_s)):
        raise InvalidRequest(f"spec.idle_timeout_s: {idle_s} is below zero")
    for name, duration_s in {**positive, "idle_timeout_s": idle_s}.items():
        if name.endswith("_s") and (said := too_long(duration_s or 0.0)):
            raise InvalidRequest(f"spec.{name}: {said}")


def _check_inside(what: str, path: str) -> None:
    """A path or pattern that stays in the workspace."""
    parts = path.split("/")
    if not path or path.startswith(("/", "~")) or ".." in parts or "\0" in path:
        raise InvalidRequest(f"{what}: {path!r} is outside the workspace", hint="name paths inside it, relative")


def _check_input(what: str, one: InputSpec, local: bool) -> None:
    if one.to not in ("", "."):
        _check_inside(f"{what}.to", one.to)
    if "://" not in one.source or one.source.startswith("file://"):
        path = one.source.removeprefix("file://")
        if not local:
            raise InvalidRequest(
                f"{what}.source: {one.source!r} is a path on the controller, which only its own user may read",
                hint=f"use one of {', '.join(_SOURCES)}",
            )
        if not path.startswith("/"):
            raise InvalidRequest(f"{what}.source: {one.source!r} is not absolute", hint="the controller has no folder")
    elif not one.source.startswith(_SOURCES) or len(one.source.split("://", 1)[1].strip("/")) == 0:
        raise InvalidRequest(f"{what}.source: cannot read {one.source!r}", hint=f"use one of {', '.join(_SOURCES)}")


def _check_known(raw: Mapping[str, Any], kind: type[Any], where: str) -> None:
    if unknown := sorted(set(map(str, raw)) - {field.name for field in fields(kind)}):
        raise InvalidRequest(f"{where}: unknown field {unknown[0][:80]!r}")


async def _check_secrets(services: Services, owner: str, spec: JobSpec, handed: Mapping[str, str]) -> None:
    if unasked := sorted(set(handed) - set(spec.secrets)):
        raise InvalidRequest(f"secrets: {unasked[0][:80]!r} is not among spec.secrets")
    for name, value in handed.items():
        check_secret(name, value)
    stored = await services.store.records.secrets(owner, spec.secrets) if spec.secrets else {}
    if missing := [name for name in spec.secrets if name not in handed and name not in stored]:
        raise InvalidRequest(
            f"missing secret: {', '.join(missing)}", hint="set it in the environment, or with `runner secret set`"
        )


def check_secret(name: str, value: str) -> None:
    """Raises: InvalidRequest; the value is never in the message."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"not a secret's name: {name[:80]!r}")
    if len(value) < _SHORTEST_SECRET:
        raise InvalidRequest(
            f"secret {name} is shorter than {_SHORTEST_SECRET} characters", hint="it could not be masked in logs"
        )
    if "\0" in value or len(value) > 65536:
        raise InvalidRequest(f"secret {name} holds a NUL byte, or is over 64 KiB")


def _check_budget(services: Services, spec: JobSpec, ladder: Ladder) -> None:
    """Raises: OverBudget for what its origin's budget could not hold even if nothing else were spent."""
    if spec.origin is None or spec.origin.budget is None or ladder.best is None:
        return
    lives_s = (spec.max_lifetime_s or services.policy.lifetime_default_s) + services.policy.deadman_bound_s
    spec.origin.budget.check_alone(bound(ceilings(spec.need, ladder.best)[-1], lives_s))


def _check_outlived(services: Services, spec: JobSpec, ladder: Ladder) -> None:
    """A machine is not launched with credentials that would end before it: nobody could end it kindly then. One that is
    to be handed over needs nobody's."""
    if services.keyring is None or services.hand_overs is not None:
        return
    lifetime_s = spec.max_lifetime_s or services.policy.lifetime_default_s
    for provider in (ladder.best.provider,) if ladder.best else spec.need.providers:
        if said := services.keyring.too_short(provider, lifetime_s):
            raise Conflict(said[0], hint=said[1])


async def _check_workspace(services: Services, workspace: Workspace | None) -> None:
    if workspace is None:
        return
    if not SHA256.fullmatch(workspace.sha256):
        raise InvalidRequest("spec.workspace.sha256 is not a sha256 in hexadecimal")
    found = await services.objects.head(f"blobs/{workspace.sha256}")
    if found is None or found.size != workspace.size:
        raise InvalidRequest("the workspace has not been uploaded", hint=f"PUT /api/v1/blobs/{workspace.sha256} first")


def _summary(ladder: Ladder) -> str:
    if not ladder.rungs:
        return "no provider offers anything"
    first = {rung.refused: rung.offer for rung in reversed(ladder.rungs)}
    lines = [f"{first[why]}: {why}" for why in dict.fromkeys(rung.refused for rung in ladder.rungs)][:_LADDER_LINES]
    more = len(ladder.rungs) - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def again(job: Job) -> JobSpec:
    """The same work, said to be a repetition. What its machine has is the pool's to say, if it named one."""
    pooled = job.spec.runner is not None and job.spec.runner.pool
    return replace(job.spec, rerun_of=job.id, need=Need() if pooled else job.spec.need)
