"""What a machine printed, made fit to be kept and shown: its end, in lines, without control characters or secrets."""

from __future__ import annotations

import re
import unicodedata

_LINES, _BYTES = 40, 4096  # arbitrary: a screen or two
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
_SECRETS = (
    re.compile(r"(?:jt|rs)_[0-9a-f]{16,}|rt_[0-9A-Za-z_-]{32,}"),  # to join with, a machine's session, a person's
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
)
_MASK = "[masked]"


def tail(text: str) -> list[str]:
    """The last lines of it, oldest first; what is cut off is cut after it was masked, so that no half of a secret is
    left."""
    shown = _printable(_masked(_ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")))
    lines = [line.rstrip() for line in shown.split("\n") if line.strip()][-_LINES:]
    while sum(len(line.encode()) + 1 for line in lines) > _BYTES and len(lines) > 1:
        lines.pop(0)
    return [line.encode()[-_BYTES:].decode(errors="ignore") for line in lines]


def _masked(text: str) -> str:
    for secret in _SECRETS:
        text = secret.sub(_MASK, text)
    return text


def _printable(text: str) -> str:
    """Tabs as blanks; whatever a terminal would act upon, or that hides or turns letters, as a question mark."""
    return "".join(_safe(one) for one in text)


def _safe(one: str) -> str:
    if one == "\n":
        return one
    if one == "\t":
        return " "
    return "?" if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else one
