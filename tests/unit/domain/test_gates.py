"""Gates: what they accept, what they say, and that their arithmetic is Python's."""

from __future__ import annotations

import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.domain.errors import InvalidRequest, NotFound
from provisioner.domain.gates import Verdict, judge, parse
from provisioner.domain.metrics import Source, find

NOW = {"val_acc": 0.9, "loss": 2.0, "deep.top_1": 0.5, "none": math.nan, "val-acc/top 1": 7.0, "base": 5.0}
BASE = {"val_acc": 0.8, "loss": 1.0}


def of(text: str) -> Verdict:
    now, base = [Source("m.json", NOW)], [Source("m.json", BASE)]
    return judge(parse(text), lambda name: find(now, name), lambda name: find(base, name))


@pytest.mark.parametrize(
    "text",
    [
        "val_acc >= 0.9",
        "val_acc>=.9",
        "loss <= base * 2",
        "loss <= base * 200%",
        "loss == 2",
        "loss != 3",
        "-loss < 0",
        "deep.top_1 > 100% - 60%",
        "m.json:loss < 1e1",
        '"val-acc/top 1" == 7',
        '"base" == 5',
        "(loss - base) / base <= 100%",
        "2 * (val_acc + 1) > - -3.7",
    ],
)
def test_these_pass(text: str) -> None:
    assert of(text).passed, of(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("val_acc >= 0.92", "failed: val_acc >= 0.92: 0.9 against 0.92, off by 0.02, 2.17%"),
        ("loss <= base * 1.05", "failed: loss <= base * 1.05: 2 against 1.05, off by 0.95, 90.5%"),
        ("loss <= 0", "failed: loss <= 0: 2 against 0, off by 2"),
        ("none == none", "failed: none == none: its left side is not a number"),
        ("none != 1", "failed: none != 1: its left side is not a number"),
        ("1 < none", "failed: 1 < none: its right side is not a number"),
        ("loss / 0 > 1", "failed: loss / 0 > 1: it divides by zero"),
        ("loss > 1e999", "failed: loss > 1e999: 2 against inf"),
        ("loss * (1e999 - 1e999) < 5", "failed: loss * (1e999 - 1e999) < 5: its left side is not a number"),
    ],
)
def test_these_fail_and_say_by_how_much(text: str, line: str) -> None:
    told = of(text)
    assert (told.passed, told.line) == (False, line)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("val_acc", "gate val_acc», column 8: expected one of >= <= > < == !="),
        ("val_acc => 1", "gate val_acc »=> 1, column 9: '=' has no meaning here"),
        ("val_acc > ", "gate val_acc > », column 11: expected a number, a metric or ("),
        ("(loss > 1", "gate (loss »> 1, column 7: expected )"),
        ("0 < loss < 1", "gate 0 < loss »< 1, column 10: expected nothing more"),
        ("loss > 1 2", "gate loss > 1 »2, column 10: expected nothing more"),
        ("loss > 1.2.3", "gate loss > »1.2.3, column 8: '1' has no meaning here"),
        ("loss > 3x", "gate loss > »3x, column 8: '3' has no meaning here"),
        ("loss ** 2 > 1", "gate loss *»* 2 > 1, column 7: expected a number"),
        ("__import__('os') > 1", "gate __import__»('os') > 1, column 11: expected one of"),
        ("loss > 'x'", "gate loss > »'x', column 8: \"'\" has no meaning here"),
        ("loss <= base + 5%", "gate loss <= base »+ 5%, column 14: + 5% could mean two things"),
        ("1 < 2", "'1 < 2' names no metric"),
        ("", "gate », column 1: expected a number"),
        ("(" * 60 + "loss" + ")" * 60 + " > 1", "more than 50 parentheses"),
        ("loss > " + "1 + " * 300 + "1", "a gate of 1208 characters"),
    ],
)
def test_what_is_malformed_is_shown_with_its_column(text: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        parse(text)
    assert said in wrong.value.message


def test_both_readings_of_a_percent_are_offered() -> None:
    with pytest.raises(InvalidRequest) as wrong:
        parse("loss <= base - 5%")
    assert wrong.value.hint == "write * 95% for a share, or 0.05 for a number"


def test_a_missing_base_is_not_found() -> None:
    with pytest.raises(NotFound):
        of("deep.top_1 > base")


NUMBERS = st.floats(allow_nan=False, allow_infinity=False, min_value=0).map(repr)
ATOMS = st.one_of(NUMBERS, st.sampled_from(["val_acc", "loss", "none", "m.k"]))
SUMS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(lambda t: f"{t[0]} {t[1]} {t[2]}"),
        inner.map(lambda one: f"({one})"),
        inner.map(lambda one: f"-({one})"),
    ),
    max_leaves=12,
)
COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}


@given(left=SUMS, sign=st.sampled_from(sorted(COMPARE)), right=SUMS)
def test_the_arithmetic_is_pythons(left: str, sign: str, right: str) -> None:
    values = {"val_acc": 0.9, "loss": 2.0, "none": math.nan, "m.k": -3.5}
    gate = parse(f"{left} {sign} {right} + 0 * val_acc")
    told = judge(gate, values.__getitem__, values.__getitem__)
    python = f"{right} + 0 * val_acc"
    known = {"val_acc": 0.9, "loss": 2.0, "none": math.nan, "mk": -3.5}
    try:
        value, bound = (eval(side.replace("m.k", "mk"), {}, known) for side in (left, python))
    except ZeroDivisionError:
        assert told.why == "it divides by zero"
        return
    assert (repr(told.value), repr(told.bound)) == (repr(value), repr(bound))
    assert told.passed == COMPARE[sign](value, bound)
