"""Whether this machine has the GPUs that it was rented for, asked before it takes any work.

A driver may still be loading when the agent starts, so a wrong answer is asked for again for a while. What is wrong
then is told to the controller as the machine's health; it ends such a machine and remembers the offer.
"""

from __future__ import annotations

import re
import shutil
import time
from typing import Any

from . import cuda, wire
from .duties import Turn
from .machine import Machine
from .probes import TOOL, gpus, lasting
from .say import say
from .xid import KernelLog, parsed

_PATIENCE_S = 90.0  # arbitrary: longer than a driver takes to load
_AGAIN_S = 2.0
_OF_NOMINAL = 0.9  # of a GPU's nominal memory; drivers keep some


class Gate:
    """`run` is the duty; it is over once the machine is tested."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def run(self, turn: Turn) -> None:
        machine, began = self._machine, time.monotonic()
        patience_s = min(_PATIENCE_S, machine.config.boot_deadline_s / 4)
        while not turn.over and not machine.tested:
            why = self.fault()
            if why and time.monotonic() - began < patience_s:
                turn.wait(min(_AGAIN_S, patience_s / 4))
                continue
            if why:
                say("gpu.unfit", why=why)
            machine.test_over(why)
        while not turn.over:
            turn.wait(3600.0)

    def fault(self) -> str:
        """What is wrong with the GPUs; "" when they are those that were rented."""
        tool = shutil.which(TOOL)
        if tool is None:
            return f"there is no {TOOL}: {_wanted(self._machine.config)} was rented"
        try:
            found = gpus(tool)
        except (OSError, ValueError) as error:
            return f"{TOOL}: {error}"
        self._machine.facts["gpus"] = lasting(found)
        return unfit(self._machine.config, found) or errors() or self._computes()

    def _computes(self) -> str:
        config = self._machine.config
        timeout_s = min(cuda.TIMEOUT_S, config.boot_deadline_s / 4)
        fault, record = cuda.try_out(self._machine.program, config.gpu_count, timeout_s)
        self._machine.facts["cuda"] = record
        return fault


def unfit(config: wire.AgentConfig, found: list[dict[str, Any]]) -> str:
    """How what was found differs from what was rented. Pure."""
    wanted = _wanted(config)
    if len(found) != config.gpu_count:
        return f"{len(found)} GPUs found: {wanted} was rented"
    for one in found:
        if not _words(config.gpu_name) <= _words(str(one.get("name", ""))):
            return f"found a {one.get('name')}: {wanted} was rented"
        size_gb = float(one.get("memory_mib") or 0) * 2**20 / 1e9
        if size_gb < _OF_NOMINAL * config.gpu_memory_gb:
            return f"found {size_gb:.1f} GB of GPU memory: {wanted} was rented"
    return ""


def errors(path: str = "") -> str:
    """The first report of the driver's in the kernel's log since the boot that speaks against the machine."""
    log = KernelLog(path)
    try:
        found = [xid for xid in map(parsed, log.new()) if xid is not None and xid.suspicious]
    finally:
        log.close()
    return f"the driver reported {found[0]}" if found else ""


def _wanted(config: wire.AgentConfig) -> str:
    return f"{config.gpu_count} x {config.gpu_name} of {config.gpu_memory_gb:g} GB"


def _words(name: str) -> set[str]:
    """Of a name as vendors and people write it: "Tesla V100-SXM2-16GB" has the word V100."""
    return set(re.split(r"[\s-]+", name.upper()))
