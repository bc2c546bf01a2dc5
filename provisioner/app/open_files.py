"""How many files this process may have open, and how many of those are for logs."""

from __future__ import annotations

import contextlib
import resource

from provisioner.store.logs import MOST_OPEN

_ENOUGH = 65536  # arbitrary; some systems' hard limit is a thousand million
_FEWEST_LOGS = 4
_FILES_A_LOG = 2
_SHARE = 4  # a quarter is for logs: the rest is for agents, viewers, the database and what is started


def raise_limit() -> None:
    """The soft limit to the hard one. The common soft one, 1024, is for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def logs_open() -> int:
    """How many logs may be kept open under the soft limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_OPEN
    return max(_FEWEST_LOGS, min(MOST_OPEN, soft // _SHARE // _FILES_A_LOG))
