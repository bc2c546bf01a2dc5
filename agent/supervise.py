"""`agent.pyz supervise DIR`: the process that becomes the supervisor of one attempt, of its kind."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from . import workload
from .files import read_json, write_json
from .supervisor import Supervisor

if TYPE_CHECKING:
    from . import wire


def main(folder: str) -> int:
    """The supervisor process."""
    words = json.loads(sys.stdin.buffer.read())
    if os.path.exists(os.path.join(folder, "supervisor.json")):
        return 0
    workload.become_subreaper()
    me = workload.process(os.getpid())
    raw = read_json(os.path.join(folder, "order.json"))
    assert me is not None
    assert raw is not None
    mark = {"pid": me.pid, "started": me.started, "boot_id": workload.boot_id()}
    # The same program wrote the order a moment ago, whole: to decode it would double the time that a start takes.
    supervisor = _kind(raw)(folder, cast("wire.Order", SimpleNamespace(**raw)), words)
    write_json(os.path.join(folder, "supervisor.json"), mark)
    supervisor.run()
    return 0


def _kind(order: dict[str, Any]) -> type[Supervisor]:
    if not order.get("runner"):
        return Supervisor
    from .serving import Serving

    return Serving
