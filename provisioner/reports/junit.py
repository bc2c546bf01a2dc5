"""JUnit XML, as test runners write it, read as somebody else's words.

Expat streams it, so that nothing is kept but counts and the first failures. A document type is refused before any of
it is read: no JUnit file needs one, and without it there are no entities to expand or fetch. That is why there is no
defusedxml here: it would do the same through one more dependency.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.parsers import expat

from provisioner.domain.errors import InvalidRequest

from .found import Failed, Suite

LARGEST = 64 * 2**20  # bytes; arbitrary
MOST_FAILED = 200  # failures that are kept with their words; arbitrary
LONGEST = 2000  # characters of one failure's words; arbitrary
_MOST = 1e12  # of whatever is counted; arbitrary
_COUNTS = ("tests", "failures", "errors", "skipped")


def read(path: Path, name: str = "") -> Suite:
    """Raises: InvalidRequest when it cannot be read, or is no JUnit file."""
    shown = name or str(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise InvalidRequest(f"{shown} has {size} bytes", hint=f"{LARGEST} are the most")
        data = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read {shown}: {error.strerror}", hint="name a JUnit file with --junit") from error
    return parse(data, shown)


def parse(data: bytes, name: str) -> Suite:
    """Raises: InvalidRequest."""
    reading = _Reading(name)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reading.doctype
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        why = expat.ErrorString(error.code)
        raise InvalidRequest(f"{name}:{error.lineno}: not XML: {why}", hint="was it cut off while written?") from error
    except (ValueError, LookupError) as error:  # of the codec that its first line names
        raise InvalidRequest(f"{name} is in an encoding that is not read here", hint="write it in UTF-8") from error
    return reading.result()


class _Reading:
    """Handlers of one document."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._depth = 0
        self._suite_depth = 0
        self._cases = dict.fromkeys(_COUNTS, 0)
        self._said = dict.fromkeys(_COUNTS, 0)
        self._suites_s = self._cases_s = 0.0
        self._case = ""
        self._seen: set[str] = set()
        self._kind = ""
        self._words: list[str] = []
        self._failed: list[Failed] = []

    def doctype(self, *_: object) -> None:
        raise InvalidRequest(f"{self._name} declares a document type", hint="a JUnit file has none; it was not read")

    def start(self, tag: str, given: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        if self._depth == 0 and tag not in ("testsuites", "testsuite"):
            raise InvalidRequest(f"{self._name} is no JUnit file: it begins with <{tag[:40]}>")
        self._depth += 1
        if tag == "testsuite":
            self._suite_depth += 1
            if self._suite_depth == 1:
                self._suites_s += _number(given.get("time"))
                for count in _COUNTS:
                    self._said[count] += int(_number(given.get(count)))
        elif tag == "testcase":
            self._case = ".".join(part for part in (given.get("classname", ""), given.get("name", "")) if part)
            self._seen = set()
            self._cases["tests"] += 1
            self._cases_s += _number(given.get("time"))
        elif tag in ("failure", "error", "skipped") and self._depth > 1:
            self._begin(tag, given.get("message", ""))

    def _begin(self, tag: str, message: str) -> None:
        count = {"failure": "failures", "error": "errors", "skipped": "skipped"}[tag]
        if count not in self._seen:
            self._seen.add(count)
            self._cases[count] += 1
        if tag != "skipped":
            self._kind, self._words = tag, [message] if message else []

    def text(self, data: str) -> None:
        if self._kind and sum(map(len, self._words)) < 2 * LONGEST:
            self._words.append(data)

    def end(self, tag: str) -> None:
        tag = tag.rpartition(":")[2]
        self._depth -= 1
        if tag == "testsuite":
            self._suite_depth -= 1
        if tag == self._kind:
            if len(self._failed) < MOST_FAILED:
                self._failed.append(Failed(self._case or "(no test)", self._kind, _shortened(self._words)))
            self._kind = ""

    def result(self) -> Suite:
        """Counted by the tests themselves; by what the suites say only where they list none."""
        counts = self._cases if self._cases["tests"] else self._said
        return Suite(self._name, **counts, time_s=self._suites_s or self._cases_s, failed=tuple(self._failed))


def _number(text: str | None) -> float:
    """Zero for what is no number: attributes are optional, and everybody writes them differently."""
    try:
        value = float((text or "0").replace(",", ""))
    except ValueError:
        return 0.0
    return min(value, _MOST) if math.isfinite(value) and value >= 0 else 0.0


def _shortened(words: list[str]) -> str:
    """The message and the text, which often begins with the message; whole lines only, where there are several."""
    head, *rest = words or [""]
    body = "".join(rest).strip()
    text = (body if head.strip() in body else f"{head}\n{body}").strip()
    if len(text) <= LONGEST:
        return text
    return text[:LONGEST].rpartition("\n")[0] or text[:LONGEST]
