"""What the machine is and how it fares: facts once, readings now and then, straight from /proc.

The GPU is asked through its driver's own tool in a child with a time-out, because a broken driver can hang whoever
calls into it; only where there is such a tool.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
from collections import deque
from typing import Any, Callable, Optional

from . import wire
from .duties import Turn
from .link import Refused, Unreachable
from .machine import Machine
from .say import say

BUSY_S, IDLE_S = 5.0, 60.0
_KEPT = 720  # arbitrary: an hour of readings while the controller is away
TOOL = "nvidia-smi"
_TOOL_TIMEOUT_S = 10.0
_ASKED = "name,driver_version,memory.total,memory.used,utilization.gpu,temperature.gpu"
_FIELDS = ("name", "driver", "memory_mib", "used_mib", "utilization", "celsius")


def facts() -> dict[str, Any]:
    """What does not change, the GPU apart."""
    return {
        "cpu_model": _cpu_model(),
        "cpus": os.cpu_count() or 1,
        "memory_bytes": _memory()[0],
        "arch": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


class Probes:
    """`run` is the duty. `hot` is told of the GPUs, with those that are slowed down by heat, while jobs run."""

    def __init__(self, machine: Machine, hot: Optional[Callable[[list[dict[str, Any]]], None]] = None) -> None:
        self._machine = machine
        self._hot = hot
        self._tool = shutil.which(TOOL)
        self._heat = Heat(self._tool) if self._tool else None
        self._rows: deque[tuple[float, dict[str, Any]]] = deque(maxlen=_KEPT)
        self._cpu = _cpu_times()

    def run(self, turn: Turn) -> None:
        self._first_look()
        due = time.monotonic()
        before: set[str] = set()
        while not turn.over:
            attempts = [one for one in self._machine.attempts if one.producing]
            if not {one.key for one in attempts} <= before:
                due = time.monotonic()
            before = {one.key for one in attempts}
            every_s = BUSY_S if attempts else IDLE_S
            if time.monotonic() >= due - 0.05:
                row = self.reading()
                if self._heat and self._hot and attempts and "gpus" in row:
                    self._heat.add(row["gpus"])
                    self._hot(row["gpus"])
                self._rows.append((time.monotonic(), row))
                self._send([(one.order.job, one.order.number) for one in attempts] or [("", 0)])
                due = time.monotonic() + every_s
            due = min(due, time.monotonic() + every_s)
            turn.wait(due - time.monotonic())

    def reading(self) -> dict[str, Any]:
        """CPU as a share of all cores since the last one, the rest as it is now."""
        total, available = _memory()
        busy, all_of_it = _cpu_times()
        past_busy, past_all = self._cpu
        self._cpu = (busy, all_of_it)
        row: dict[str, Any] = {
            "cpu": round((busy - past_busy) / max(1, all_of_it - past_all), 4),
            "memory_bytes": total - available,
            "disk_bytes": shutil.disk_usage(self._machine.home.path).used,
        }
        if self._tool:
            with contextlib.suppress(OSError, ValueError):
                row["gpus"] = gpus(self._tool)
        return row

    def _first_look(self) -> None:
        """GPU facts, and whether a GPU that is there answers."""
        if not self._tool or "gpus" in self._machine.facts:
            return
        try:
            self._machine.facts["gpus"] = lasting(gpus(self._tool))
        except (OSError, ValueError) as error:
            say("gpu.silent", error=str(error))
            if os.path.exists("/dev/nvidia0") and not self._machine.unhealthy:
                self._machine.unhealthy = f"{TOOL}: {error}"
                self._machine.news()

    def _send(self, attempts: list[tuple[str, int]]) -> None:
        now = time.monotonic()
        rows: list[list[Any]] = [[round(now - at, 3), row] for at, row in self._rows]
        if not self._machine.link.session:
            return
        try:
            for job, number in attempts:
                self._machine.link.ask("POST", "/agent/v1/readings", wire.encode(wire.Readings(job, number, rows)))
        except Unreachable:
            return
        except Refused as error:
            say("readings.refused", error=str(error))
        self._rows.clear()


def gpus(tool: str) -> list[dict[str, Any]]:
    """One row a GPU. Raises: OSError, ValueError when the tool fails, hangs or says what cannot be read."""
    return [dict(zip(_FIELDS, map(_number, line.split(",")))) for line in _queried(tool, _ASKED).splitlines()]


def _queried(tool: str, fields: str) -> str:
    from .child import answer  # with what it needs, only where there is a GPU

    ours = os.environ.get("CUDA_VISIBLE_DEVICES", "")  # a machine may have a share of its computer's
    words = [tool, *(["-i", ours] if ours else []), f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        code, text = answer(words, _TOOL_TIMEOUT_S)
    except TimeoutError as error:
        raise ValueError("no answer from the driver") from error
    if code != 0:
        raise ValueError(text[:200] or f"exit {code}")
    return text


class Heat:
    """Asks which GPUs are slowed down by heat. Drivers since R535 call this events, older ones throttling.
    Source: `nvidia-smi --help-query-gpu`."""

    def __init__(self, tool: str) -> None:
        self._tool = tool
        self._names = ["clocks_event_reasons", "clocks_throttle_reasons"]

    def add(self, rows: list[dict[str, Any]]) -> None:
        """`slowed` to the rows of `gpus` that are. A driver that knows neither name is not asked again."""
        while self._names:
            try:
                kinds = (f"{self._names[0]}.{kind}_thermal_slowdown" for kind in ("hw", "sw"))
                text = _queried(self._tool, ",".join(kinds))
            except (OSError, ValueError) as error:
                if "not a valid field" not in str(error):
                    return
                self._names.pop(0)
                continue
            for row, line in zip(rows, text.splitlines()):
                active = [word.strip() == "Active" for word in line.split(",")]
                if any(active):
                    row["slowed"] = f"{'hardware' if active[0] else 'software'} thermal slowdown"
            return


def lasting(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of `gpus`, what does not change."""
    return [{key: one.get(key) for key in ("name", "driver", "memory_mib")} for one in found]


def _number(text: str) -> Any:
    clean = text.strip()
    try:
        return float(clean) if clean.replace(".", "", 1).isdigit() else clean
    except ValueError:
        return clean


def _cpu_times() -> tuple[int, int]:
    """Busy and all ticks of all cores since boot."""
    with open("/proc/stat") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _memory() -> tuple[int, int]:
    """Total and available bytes."""
    found = {}
    with open("/proc/meminfo") as file:
        for line in file:
            name, _, value = line.partition(":")
            found[name] = int(value.split()[0]) * 1024
    return found["MemTotal"], found.get("MemAvailable", found["MemFree"])


def _cpu_model() -> str:
    model: Optional[str] = None
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                model = value.strip()
                break
    return model or platform.machine()
