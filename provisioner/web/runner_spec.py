"""What a job that is to be a forge's runner may ask for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import runner_site
from provisioner.domain.job import JobSpec, Need
from provisioner.domain.kinds import Kinds
from provisioner.domain.pools import Pool

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=/@+-]{0,99}")
_MOST_LABELS = 100  # Source: reference "forges", 2.1.3
_ITS_FORGES = ("run", "setup", "inputs", "outputs", "checkpoint", "tty", "workspace", "params")


def as_in_pool(spec: JobSpec, pools: Sequence[Pool]) -> JobSpec:
    """With the machine of the pool that it names. Raises: InvalidRequest."""
    if spec.runner is None or not (name := spec.runner.pool):
        return spec
    pool = next((pool for pool in pools if pool.name == name), None)
    if pool is None:
        there = ", ".join(pool.name for pool in pools) or "none"
        raise InvalidRequest(f"no pool is called {name[:80]!r}", hint=f"this controller has {there}")
    if spec.need != Need():
        raise InvalidRequest(f"what a machine has is said by the pool {name}", hint="leave it out, or the pool")
    lives_s = min((one for one in (spec.max_lifetime_s, pool.max_lifetime_s) if one is not None), default=None)
    return replace(spec, need=pool.need, max_lifetime_s=lives_s)


def check_runner(spec: JobSpec, kinds: Kinds) -> None:
    """What it runs, reads and leaves is its forge's affair. Raises: InvalidRequest."""
    runner = spec.runner
    if runner is None:
        raise InvalidRequest("spec.runner: a ci-runner needs one", hint="its url, forge and labels")
    for name in _ITS_FORGES:
        if getattr(spec, name):
            raise InvalidRequest(f"spec.{name}: a ci-runner runs what its forge gives it", hint="leave it out")
    kinds.of(runner_site(runner).kind)
    if runner.jobs not in ("one", "many"):
        raise InvalidRequest(f"spec.runner.jobs: {runner.jobs[:40]!r} is neither one nor many")
    if not 1 <= len(runner.labels) <= _MOST_LABELS:
        raise InvalidRequest(f"spec.runner.labels: give 1 to {_MOST_LABELS} labels")
    for label in runner.labels:
        if not _LABEL.fullmatch(label):
            raise InvalidRequest(
                f"spec.runner.labels: {label[:120]!r} is not a label", hint="letters, digits and _.:=/@+-"
            )
    if not (runner.idle_s > 0 and math.isfinite(runner.idle_s)):
        raise InvalidRequest(f"spec.runner.idle_s: {runner.idle_s} is not above zero")
    within_s = runner.online_within_s
    if within_s is not None and not (within_s > 0 and math.isfinite(within_s)):
        raise InvalidRequest(f"spec.runner.online_within_s: {within_s} is not above zero")
