"""The way of a log: from a job's write to the controller's disk, and from a line's writing to a viewer's reading.

Throughput is bytes over the time from the attempt's start to its end, both as the controller recorded them, so that it
covers job, supervisor, agent and controller together on this one computer.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime

from .home import Installed, installed
from .measure import say

ONE_MB, EACH_MB, JOBS, LINES = 1000, 10, 100, 200
_WRITE = (
    "import os, sys; line = b'x' * 99 + b'\\n'; block = line * 10000\n"
    "for _ in range(int(sys.argv[1])):\n    view = memoryview(block)\n"
    "    while view: view = view[os.write(1, view):]"
)
_TELL = f"import time\nfor _ in range({LINES}):\n    print(time.time(), flush=True)\n    time.sleep(0.02)"
SETTINGS = f"max_instances: {JOBS}\n"


def main() -> None:
    with installed(SETTINGS) as home:
        say("log, one job", f"{_rate(home, _job(home)):.0f} MB/s of {ONE_MB} MB", "100 MB/s")
        for number in range(3):
            home.extra[f"SECRET_{number}"] = f"a-secret-of-some-length-{number}"
        words = [word for number in range(3) for word in ("--secret", f"SECRET_{number}")]
        say("log, one job, three secrets masked", f"{_rate(home, _job(home, *words)):.0f} MB/s", "60 MB/s")
        late_ms = sorted(_late_ms(home))
        p99 = late_ms[int(len(late_ms) * 0.99)]
        say("line to viewer", f"p50 {statistics.median(late_ms):.1f} ms, p99 {p99:.1f} ms", "p50 50 ms")
    with installed(SETTINGS) as home:
        say(f"log, {JOBS} jobs at once", f"{_rate_of_many(home):.0f} MB/s in all", "50 MB/s in all")


def _job(home: Installed, *options: str, megabytes: int = ONE_MB) -> str:
    return home.submit("--no-workdir", *options, "--", sys.executable, "-c", _WRITE, str(megabytes))


def _rate(home: Installed, job: str) -> float:
    (attempt,) = home.wait_done(job, 300)["attempts_list"]
    assert attempt["log_size"] == ONE_MB * 10**6, attempt
    took = datetime.fromisoformat(attempt["ended_at"]) - datetime.fromisoformat(attempt["started_at"])
    return ONE_MB / took.total_seconds()


def _rate_of_many(home: Installed) -> float:
    jobs = [_job(home, megabytes=EACH_MB) for _ in range(JOBS)]
    spans = []
    for job in jobs:
        (attempt,) = home.wait_done(job, 600)["attempts_list"]
        spans.append([datetime.fromisoformat(attempt[key]) for key in ("started_at", "ended_at")])
    took = max(end for _, end in spans) - min(start for start, _ in spans)
    return JOBS * EACH_MB / took.total_seconds()


def _late_ms(home: Installed) -> Iterator[float]:
    command = home.command("run", "--no-workdir", "--", sys.executable, "-c", _TELL)
    with subprocess.Popen(command, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        for line in running.stdout:
            yield (time.time() - float(line)) * 1e3


if __name__ == "__main__":
    main()
