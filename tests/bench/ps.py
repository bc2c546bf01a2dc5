"""How long `runner ps` takes against a controller that runs: the whole process of the command line is timed."""

from __future__ import annotations

from .home import installed
from .installed import runner
from .measure import runs, say

JOBS = 20


def main() -> None:
    with installed() as home:
        jobs = [home.submit("--no-workdir", "--", "true") for _ in range(JOBS)]
        for job in jobs:
            home.wait_done(job)
        say(f"runner ps -a, {JOBS} jobs", str(runs([str(runner()), "ps", "-a"], 15, home.environment)), "200 ms")


if __name__ == "__main__":
    main()
