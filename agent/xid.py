"""The driver's own error reports in the kernel's log, and which of them a machine cannot be trusted after.

Source: NVIDIA, "Xid Errors" and its "Xid Catalog" (docs.nvidia.com/deploy/xid-errors, read November 2026), "GPU Memory
Error Management" (docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt) and, for those that an application can cause, the
list that NVIDIA/k8s-device-plugin skips (internal/rm/health.go).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Optional

KERNEL_LOG = "/dev/kmsg"
_XID = re.compile(r"NVRM: Xid \(([^)]*)\): (\d+)(?:, *(.*))?")
_WHO = re.compile(r"^(?:pid=[^,]*|name=[^,]*)(?:, *|$)")
_NO_ACTION = re.compile(r"to 0x0\b")
_LONGEST = 200  # characters of the driver's own words
# The GPU is off the bus, must be reset (the catalog's immediate action RESET_GPU, 155 excepted, which intended sleep of
# a link brings about), or its memory cannot be relied on. Source: above.
FATAL = {
    46: "the GPU stopped processing",
    48: "double-bit memory error",
    62: "its micro-controller halted",
    64: "a memory row or page could not be retired",
    74: "NVLink error",
    79: "the GPU has fallen off the bus",
    94: "contained memory error",
    95: "uncontained memory error",
    110: "security fault",
    119: "its system processor timed out",
    120: "its system processor failed",
    136: "an NVLink could not be trained",
    140: "memory error that was not recovered",
    143: "the GPU could not be initialised",
    154: "the driver asks for recovery",
    156: "a broken part of the GPU was retired",
    158: "the GPU timed out for good",
}
# What a job's own mistake, or its end, can bring about; after 109 the driver itself asks for a reset by 154 where it
# needs one (from R570 on). Source: above.
APPLICATION = frozenset({13, 31, 43, 45, 68, 109})


@dataclass(frozen=True)
class Xid:
    """`gpu` is its PCI address as the driver writes it; `text` the driver's own words, cut."""

    number: int
    gpu: str
    text: str = ""

    @property
    def fatal(self) -> bool:
        """Whether the machine must not be given another job."""
        return self.number in FATAL and not (self.number == 154 and _NO_ACTION.search(self.text))

    @property
    def suspicious(self) -> bool:
        """Whether a machine on which nothing has run yet is to be refused for it."""
        return self.number not in APPLICATION and (self.fatal or self.number != 154)

    def __str__(self) -> str:
        return f"Xid {self.number} ({self.gpu})"


def parsed(text: str) -> Optional[Xid]:
    """The report in one line of the log, if it is one."""
    match = _XID.search(text)
    if match is None:
        return None
    words = match[3] or ""
    while cut := _WHO.match(words):
        words = words[cut.end() :]
    return Xid(int(match[2]), match[1], words.strip()[:_LONGEST])


class KernelLog:
    """Records of the kernel's log in their order. `position` is the number of the last one read, to go on from.

    Source: kernel documentation, ABI/testing/dev-kmsg: a record a read, "priority,sequence,microseconds,flags;text".
    """

    def __init__(self, path: str = "", position: int = -1) -> None:
        self._path = path or KERNEL_LOG
        self._number: Optional[int] = None
        self._rest = ""
        self.position = position

    def new(self) -> list[str]:
        """Texts of the records since the last call; none where the log cannot be read."""
        if self._number is None:
            try:
                self._number = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                return []
        found = []
        while (data := self._read(self._number)) is not None:
            *lines, self._rest = (self._rest + data).split("\n")
            found += [text for text in map(self._text, lines) if text]
        return found

    def _text(self, line: str) -> str:
        """Of a record not seen before; lines that begin with a blank belong to the one above."""
        head, _, text = line.partition(";")
        words = head.split(",")
        if line.startswith(" ") or len(words) < 3 or not words[1].isdigit() or int(words[1]) <= self.position:
            return ""
        self.position = int(words[1])
        return text

    def _read(self, number: int) -> Optional[str]:
        """What comes next. None at the end; what was overwritten meanwhile is skipped."""
        while True:
            try:
                return os.read(number, 8192).decode("utf-8", "replace") or None
            except BrokenPipeError:
                continue
            except OSError:
                return None

    def close(self) -> None:
        if self._number is not None:
            os.close(self._number)
            self._number = None
