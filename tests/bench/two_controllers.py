"""A thousand jobs through two real controllers on one PostgreSQL, one of them killed on the way and not started again.

Each job adds its id to one file when it runs, so that what ran twice, or never, is in that file. PostgreSQL, the S3
server, both controllers, agents and jobs are real processes of this computer, and all compete for it.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from provisioner.cli.client import Client
from provisioner.domain.ids import new_id
from tests.fakes import postgres
from tests.system.pair import Pair, paired

from .home import WithExtras
from .measure import say

JOBS = int(os.environ.get("BENCH_JOBS", "1000"))
MACHINES = 4
_KILLED_AFTER = 0.3  # of the jobs
_PATIENCE_S = 3600.0


def main() -> None:
    if postgres.binaries() is None:
        say("two controllers", "skipped: PostgreSQL is not installed")
        return
    settings = f"max_instances: {MACHINES}\n"
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, paired(Path(folder), WithExtras, settings) as pair:
        pair.ready()
        _measure(pair, Path(folder) / "ran")


def _measure(pair: Pair, ran: Path) -> None:
    began = time.monotonic()
    jobs = _submit(pair, ran)
    say(f"{JOBS} jobs submitted through two controllers", f"{time.monotonic() - began:.1f} s")
    _until(lambda: _lines(ran) >= JOBS * _KILLED_AFTER)
    assert pair.a.kill("controller") == 1
    before, killed_at = _lines(ran), time.monotonic()
    left = Client(f"unix:{pair.b.home / 'control.sock'}")
    _until(lambda: not left.get("/jobs", limit=1))
    took_s = time.monotonic() - killed_at
    ends = Counter(f"{one['outcome']}, {one['attempts']} attempts" for one in map(left.get, _paths(jobs)))
    times = Counter(Counter(ran.read_text().split()).values())
    rates = f"{before / (killed_at - began):.1f} jobs/s with both, {(JOBS - before) / took_s:.1f} with one"
    say(f"one controller killed after {before} of {JOBS}", f"{rates}; {MACHINES} machines at a time")
    say("how the jobs ended", "; ".join(f"{count} {end}" for end, count in ends.items()), "none lost")
    say("how often each ran", "; ".join(f"{count} jobs {often} x" for often, count in times.items()), "once")
    assert not pair.a.pids("controller")


def _submit(pair: Pair, ran: Path) -> list[str]:
    clients = [Client(f"unix:{world.home / 'control.sock'}") for world in (pair.a, pair.b)]
    rng, jobs = random.Random(1), []
    spec = {"run": f"echo $RUNNER_JOB_ID >> {ran}", "idle_timeout_s": 60.0}
    for number in range(JOBS):
        job = new_id("j", datetime.now(UTC), rng.getrandbits)
        clients[number % 2].post("/jobs", {"id": job, "spec": spec})
        jobs.append(job)
    return jobs


def _paths(jobs: list[str]) -> list[str]:
    return [f"/jobs/{job}" for job in jobs]


def _lines(ran: Path) -> int:
    return ran.read_bytes().count(b"\n") if ran.exists() else 0


def _until(found) -> None:  # type: ignore[no-untyped-def]
    ends_at = time.monotonic() + _PATIENCE_S
    while not found():
        assert time.monotonic() < ends_at, "it takes too long"
        time.sleep(0.2)


if __name__ == "__main__":
    main()
