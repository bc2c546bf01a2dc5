"""The way of a log: from a job's write to the controller's disk, and from a line's writing to a viewer's reading.

Throughput is bytes over the time from the attempt's start to its end, both as the controller recorded them, so that it
covers job, supervisor, agent and controller together on this one computer. A hundred jobs wait for one another first.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from .home import Installed, installed
from .measure import say

ONE_MB, EACH_MB, JOBS, LINES = 1000, 10, 100, 200
_WRITE = (
    "import os, sys, time\n"
    "while len(sys.argv) > 2 and not os.path.exists(sys.argv[2]): time.sleep(0.05)\n"
    "line = b'x' * 99 + b'\\n'; block = line * 10000\n"
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


def _job(home: Installed, *options: str, megabytes: int = ONE_MB, after: Path | None = None) -> str:
    words = [str(megabytes), *([str(after)] if after else [])]
    return home.submit("--no-workdir", *options, "--", sys.executable, "-c", _WRITE, *words)


def _rate(home: Installed, job: str) -> float:
    (attempt,) = home.wait_done(job, 300)["attempts_list"]
    assert attempt["log_size"] == ONE_MB * 10**6, attempt
    took = datetime.fromisoformat(attempt["ended_at"]) - datetime.fromisoformat(attempt["started_at"])
    return ONE_MB / took.total_seconds()


def _rate_of_many(home: Installed) -> float:
    """From the moment at which all may write to the last attempt's end."""
    go = home.home / "go"
    jobs = [_job(home, megabytes=EACH_MB, after=go) for _ in range(JOBS)]
    home.until(lambda: all(_runs(home, job) for job in jobs), 300, "all jobs to run")
    began_at = time.time()
    go.touch()
    ends = [home.wait_done(job, 600)["attempts_list"][0]["ended_at"] for job in jobs]
    return JOBS * EACH_MB / (max(datetime.fromisoformat(end).timestamp() for end in ends) - began_at)


def _runs(home: Installed, job: str) -> bool:
    return any(attempt["phase"] == "running" for attempt in home.job(job)["attempts_list"])


def _late_ms(home: Installed) -> Iterator[float]:
    command = home.command("run", "--no-workdir", "--", sys.executable, "-c", _TELL)
    with subprocess.Popen(command, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        for line in running.stdout:
            yield (time.time() - float(line)) * 1e3


if __name__ == "__main__":
    main()
