"""Gates: comparisons of metrics, such as `val_acc >= 0.92` or `loss <= base * 1.05`, read and judged without eval.

    gate  = sum (">=" | "<=" | ">" | "<" | "==" | "!=") sum
    sum   = term {("+" | "-") term}
    term  = sign {("*" | "/") sign}
    sign  = {"+" | "-"} atom
    atom  = NUMBER ["%"] | "base" | NAME | '"any name"' | "(" sum ")"

A NAME is a dotted path, with `file:` before it if need be. `base` is what the first metric of the gate is in the base.
Numbers are Python's floats, and so is the arithmetic. What is not a number passes no gate.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .errors import InvalidRequest
from .metrics import shown

LONGEST = 500  # characters of one gate; arbitrary
DEEPEST = 50  # parentheses and signs inside one another; arbitrary
_NUMBER = r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])"
_NAME = r"(?P<name>[A-Za-z_][\w.]*(?::[A-Za-z_][\w.]*)?)"
_TOKEN = re.compile(rf'\s*(?:{_NUMBER}|{_NAME}|"(?P<quoted>[^"]+)"|(?P<sign>>=|<=|==|!=|[<>+\-*/%()]))')
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
_REACH: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}

# Gives the value of a metric; raises NotFound or InvalidRequest.
Find = Callable[[str], float]


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is number, name, quoted, sign or end; `at` the column, from 0."""

    kind: str
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Number:
    value: float
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    name: str


@dataclass(frozen=True, slots=True)
class Base:
    """The gate's first metric, as it is in the base."""


@dataclass(frozen=True, slots=True)
class Negated:
    of: Term


@dataclass(frozen=True, slots=True)
class Pair:
    sign: str
    left: Term
    right: Term


Term = Number | Named | Base | Negated | Pair


@dataclass(frozen=True, slots=True)
class Gate:
    """`text` as the user wrote it. `metric` is the first one named."""

    text: str
    left: Term
    sign: str
    right: Term

    @property
    def names(self) -> list[str]:
        return [term.name for side in (self.left, self.right) for term in _within(side) if isinstance(term, Named)]

    @property
    def metric(self) -> str:
        return self.names[0] if self.names else ""

    @property
    def needs_base(self) -> bool:
        return any(isinstance(term, Base) for side in (self.left, self.right) for term in _within(side))


@dataclass(frozen=True, slots=True)
class Verdict:
    """`value` and `bound` are the two sides; `off_by` how far the first is from the second where it failed, `percent`
    the same as a share of the bound."""

    gate: str
    passed: bool
    value: float
    bound: float
    why: str = ""

    @property
    def off_by(self) -> float | None:
        distance = abs(self.value - self.bound)
        return None if self.passed or not math.isfinite(distance) else distance

    @property
    def percent(self) -> float | None:
        if self.off_by is None or not self.bound:
            return None
        return 100 * self.off_by / abs(self.bound)

    @property
    def line(self) -> str:
        """All of it, for a person."""
        if self.passed:
            return f"passed: {self.gate} ({shown(self.value)})"
        if self.why:
            return f"failed: {self.gate}: {self.why}"
        share = f", {self.percent:.3g}%" if self.percent is not None else ""
        off = f", off by {shown(self.off_by)}{share}" if self.off_by is not None else ""
        return f"failed: {self.gate}: {shown(self.value)} against {shown(self.bound)}{off}"


def parse(text: str) -> Gate:
    """Raises: InvalidRequest pointing at the column."""
    if len(text) > LONGEST:
        raise InvalidRequest(f"a gate of {len(text)} characters", hint=f"{LONGEST} are the most")
    gate = _Parser(text).gate()
    if not gate.names:
        raise InvalidRequest(f"{text!r} names no metric", hint="write NAME >= NUMBER")
    return gate


def judge(gate: Gate, now: Find, base: Find) -> Verdict:
    """Raises: what `now` and `base` raise for a metric that is missing."""
    try:
        value, bound = _value(gate.left, gate, now, base), _value(gate.right, gate, now, base)
    except ZeroDivisionError:
        return Verdict(gate.text, False, math.nan, math.nan, "it divides by zero")
    if math.isnan(value) or math.isnan(bound):
        side = "its left side" if math.isnan(value) else "its right side"
        return Verdict(gate.text, False, value, bound, f"{side} is not a number")
    return Verdict(gate.text, _COMPARE[gate.sign](value, bound), value, bound)


def _value(term: Term, gate: Gate, now: Find, base: Find) -> float:
    match term:
        case Number(value, percent):
            return value / 100 if percent else value
        case Named(name):
            return now(name)
        case Base():
            return base(gate.metric)
        case Negated(of):
            return -_value(of, gate, now, base)
        case Pair(sign, left, right):
            return _REACH[sign](_value(left, gate, now, base), _value(right, gate, now, base))


def _within(term: Term) -> Iterator[Term]:
    yield term
    match term:
        case Negated(of):
            yield from _within(of)
        case Pair(_, left, right):
            yield from _within(left)
            yield from _within(right)


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = iter(_tokens(text))
        self._next = next(self._tokens)
        self._depth = 0

    def gate(self) -> Gate:
        left = self._sum()
        sign = self._next.text
        if self._next.kind != "sign" or sign not in _COMPARE:
            raise self._wrong(f"expected one of {' '.join(_COMPARE)}")
        self._take()
        right = self._sum()
        if self._next.kind != "end":
            raise self._wrong("expected nothing more: one comparison is a gate")
        return Gate(self._text.strip(), left, sign, right)

    def _sum(self) -> Term:
        left = self._term()
        while self._next.kind == "sign" and self._next.text in "+-":
            sign = self._take()
            right = self._term()
            if isinstance(right, Number) and right.percent and not (isinstance(left, Number) and left.percent):
                raise self._two_meanings(sign, right.value)
            left = Pair(sign.text, left, right)
        return left

    def _two_meanings(self, sign: Token, percent: float) -> InvalidRequest:
        share = shown(100 + percent if sign.text == "+" else 100 - percent)
        said = f"{sign.text} {shown(percent)}% could mean two things"
        return _wrong(
            self._text, sign.at, said, f"write * {share}% for a share, or {shown(percent / 100)} for a number"
        )

    def _term(self) -> Term:
        left = self._signed()
        while self._next.kind == "sign" and self._next.text in "*/":
            sign = self._take().text
            left = Pair(sign, left, self._signed())
        return left

    def _signed(self) -> Term:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._wrong(f"more than {DEEPEST} parentheses and signs inside one another")
        try:
            if self._next.kind == "sign" and self._next.text in "+-":
                sign = self._take().text
                inner = self._signed()
                return Negated(inner) if sign == "-" else inner
            return self._atom()
        finally:
            self._depth -= 1

    def _atom(self) -> Term:
        token = self._next
        if token.kind == "number":
            self._take()
            percent = self._next.text == "%"
            if percent:
                self._take()
            return Number(float(token.text), percent)
        if token.kind in ("name", "quoted"):
            self._take()
            return Base() if token.kind == "name" and token.text == "base" else Named(token.text)
        if token.text == "(":
            self._take()
            inner = self._sum()
            if self._next.text != ")":
                raise self._wrong("expected )")
            self._take()
            return inner
        raise self._wrong("expected a number, a metric or (")

    def _take(self) -> Token:
        taken, self._next = self._next, next(self._tokens)
        return taken

    def _wrong(self, what: str) -> InvalidRequest:
        return _wrong(self._text, self._next.at, what)


def _tokens(text: str) -> Iterator[Token]:
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            raise _wrong(text, start, f"{text[start]!r} has no meaning here", 'put names with other letters in "..."')
        kind = match.lastgroup or ""
        yield Token(kind, match[kind], match.start(kind))
        at = match.end()
    while True:
        yield Token("end", "", len(text))


def _wrong(text: str, at: int, what: str, hint: str = "") -> InvalidRequest:
    """One line that shows where: the gate with a mark before the letter that is wrong."""
    return InvalidRequest(f"gate {text[:at]}»{text[at:]}, column {at + 1}: {what}", hint=hint)
