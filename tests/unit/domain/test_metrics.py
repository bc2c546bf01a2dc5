"""Metrics: flattened, found by name, compared."""

from __future__ import annotations

import math

import pytest

from provisioner.domain.errors import InvalidRequest, NotFound
from provisioner.domain.metrics import MOST, Change, Source, changes, find, flatten, shown


def test_trees_become_dotted_names_in_their_order() -> None:
    tree = {"b": 1, "eval": {"top": {"1": 0.5}, "name": "x", "curve": [1, 2]}, "ok": True, "none": None}
    assert flatten(tree) == {"b": 1.0, "eval.top.1": 0.5, "ok": 1.0}
    assert list(flatten(tree)) == ["b", "eval.top.1", "ok"]


def test_numbers_that_no_float_holds_are_infinite() -> None:
    assert flatten({"a": 10**400, "b": -(10**400)}) == {"a": math.inf, "b": -math.inf}


def test_a_tree_of_any_depth_is_flattened() -> None:
    tree: dict[str, object] = {"x": 1}
    for _ in range(50_000):
        tree = {"a": tree}
    assert list(flatten(tree).values()) == [1.0]


@pytest.mark.parametrize("tree", [[1], "text", None, 3])
def test_what_is_no_object_is_refused(tree: object) -> None:
    with pytest.raises(InvalidRequest, match="not an object"):
        flatten(tree)


def test_too_many_numbers_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="more than 10000 numbers"):
        flatten({str(n): n for n in range(MOST + 1)})


def test_a_metric_is_found_by_path_or_by_file_and_path() -> None:
    sources = [Source("out/a.json", {"loss": 1.0, "acc": 3.0}), Source("b.json", {"loss": 2.0})]
    assert find(sources, "acc") == 3.0
    assert find(sources, "a.json:loss") == 1.0
    assert find(sources, "out/a.json:loss") == 1.0
    assert find(sources, "b.json:loss") == 2.0
    with pytest.raises(InvalidRequest, match="several files have a metric 'loss'") as wrong:
        find(sources, "loss")
    assert wrong.value.hint == 'write "out/a.json:loss" or "b.json:loss"'


def test_a_missing_metric_is_told_with_the_nearest_name() -> None:
    with pytest.raises(NotFound) as wrong:
        find([Source("m.json", {"val_acc": 1.0, "loss": 2.0})], "val_accuracy")
    assert wrong.value.line == ("there is no metric 'val_accuracy'; did you mean 'val_acc'? there are val_acc, loss")


def test_changes_are_of_both_sides() -> None:
    told = changes({"a": 1.0, "new": 2.0}, {"a": 0.5, "old": 3.0})
    assert told == [Change("a", 1.0, 0.5), Change("new", 2.0, None), Change("old", None, 3.0)]
    assert (told[0].by, told[0].percent, told[1].by) == (0.5, 100.0, None)


def test_a_share_of_a_negative_base_keeps_the_sign_of_the_change() -> None:
    assert Change("a", -1.0, -2.0).percent == 50.0
    assert Change("a", 1.0, 0.0).percent is None
    assert Change("a", 1.0, math.inf).percent is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1 + 0.2, "0.3"), (3.0, "3"), (None, ""), (math.nan, "nan"), (math.inf, "inf"), (1e300, "1e+300")],
)
def test_numbers_are_shown_short(value: float | None, text: str) -> None:
    assert shown(value) == text
