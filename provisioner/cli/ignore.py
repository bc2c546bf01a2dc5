"""What `.runnerignore` leaves out: gitignore's rules, read here, because they hold outside of repositories too.

Source: gitignore(5), "PATTERN FORMAT". The last rule that matches decides; what is below a folder that is left out
cannot be brought back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CLASS = re.compile(r"\[(!|\^)?(\]?(?:\\.|\[:\w+:\]|[^\]\\])*)\]")
_NAMED = {"alpha": "A-Za-z", "digit": "0-9", "alnum": "A-Za-z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\s"}


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    back: bool
    folders_only: bool


class Ignore:
    """The rules of one file, for paths relative to its folder."""

    def __init__(self, text: str) -> None:
        self._rules = [rule for line in text.splitlines() if (rule := _rule(line))]
        self._known: dict[str, bool] = {"": False}

    def __bool__(self) -> bool:
        return bool(self._rules)

    def folder(self, path: str) -> bool:
        """Whether a folder, and so all that is in it, is left out."""
        if path not in self._known:
            self._known[path] = self.folder(path.rpartition("/")[0]) or self._matches(path, True)
        return self._known[path]

    def file(self, path: str) -> bool:
        return self.folder(path.rpartition("/")[0]) or self._matches(path, False)

    def _matches(self, path: str, folder: bool) -> bool:
        for rule in reversed(self._rules):
            if (folder or not rule.folders_only) and rule.pattern.fullmatch(path):
                return not rule.back
        return False


def _rule(line: str) -> _Rule | None:
    text = re.sub(r"(?<!\\)((?:\\\\)*) +$", r"\1", line.rstrip("\r\n"))
    if not text or text.startswith("#"):
        return None
    back = text.startswith("!")
    text = text.removeprefix("!")
    folders_only = text.endswith("/")
    text = text.removesuffix("/")
    if not text:
        return None
    anchored = "/" in text
    inner = _translated(text.removeprefix("/"))
    return _Rule(re.compile(inner if anchored else f"(?:.*/)?{inner}", re.S), back, folders_only)


def _translated(glob: str) -> str:
    out, at = [], 0
    while at < len(glob):
        rest = glob[at:]
        if rest.startswith("**/") and (at == 0 or glob[at - 1] == "/"):
            out.append("(?:.*/)?")
            at += 3
        elif rest == "**" and at > 0 and glob[at - 1] == "/":
            out.append(".+")
            at += 2
        elif rest[0] == "*":
            out.append("[^/]*")
            at += len(rest) - len(rest.lstrip("*"))
        elif rest[0] == "?":
            out.append("[^/]")
            at += 1
        elif match := _CLASS.match(rest):
            out.append(f"(?!/)[{'^' if match[1] else ''}{_members(match[2])}]")
            at += match.end()
        elif rest[0] == "\\" and len(rest) > 1:
            out.append(re.escape(rest[1]))
            at += 2
        else:
            out.append(re.escape(rest[0]))
            at += 1
    return "".join(out)


def _members(text: str) -> str:
    """The inside of a character class, as `re` writes it."""
    named = re.sub(r"\[:(\w+):\]", lambda match: f"\0{match[1]}\0", text)
    plain = re.sub(r"\\(.)", r"\1", named)
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", plain)
    return re.sub(r"\x00(\w+)\x00", lambda match: _NAMED.get(match[1], ""), escaped)
