"""`python -m tests.bench [NAME...]`: run the benchmarks one after another, on a machine that does nothing else."""

from __future__ import annotations

import importlib
import sys

from .measure import machine

ALL = (
    "install_size",
    "cli_start",
    "controller_start",
    "ps",
    "first_output",
    "agent_idle",
    "log_path",
    "results_io",
    "swarm",
    "many_jobs",
    "two_controllers",
    "aws_launch",
    "offers",
    "many_hosts",
    "forge_hour",
    "webhook_burst",
    "register_burst",
    "forge_hour",
)


def main() -> None:
    print(machine())
    for name in sys.argv[1:] or ALL:
        print(f"\n{name}")
        importlib.import_module(f"tests.bench.{name}").main()


if __name__ == "__main__":
    main()
