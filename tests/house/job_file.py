"""The job file's keys, from the code that reads one."""

from __future__ import annotations


def job_file() -> str:
    raise NotImplementedError
