"""The protocol as it went out into the world: what was once sent must be understood for ever.

One golden file a message, every field set to something other than its default. A field that is added later is added to
the newest goldens by hand; nothing in them is ever changed or taken away within one protocol number.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from agent import wire

GOLDENS = sorted((Path(__file__).parent / f"v{wire.PROTOCOL}").glob("*.json"))
MESSAGES = {
    name: kind
    for name, kind in vars(wire).items()
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind.__module__.startswith("agent.")
}


def _load(path: Path) -> tuple[Any, dict[str, Any]]:
    return MESSAGES[path.stem], json.loads(path.read_bytes())


def test_every_message_has_a_golden() -> None:
    assert {path.stem for path in GOLDENS} == set(MESSAGES)


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_a_golden_is_read_and_written_without_loss(path: Path) -> None:
    kind, golden = _load(path)
    written = json.loads(wire.encode(wire.decode(kind, path.read_bytes())))
    assert _less(golden, written) == []


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_unknown_fields_are_ignored_at_every_depth(path: Path) -> None:
    kind, golden = _load(path)
    known = wire.decode(kind, path.read_bytes())
    assert wire.decode(kind, json.dumps(_grown(golden, kind)).encode()) == known


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_what_has_a_default_may_be_absent_and_what_has_none_may_not(path: Path) -> None:
    kind, golden = _load(path)
    needed = {
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    wire.decode(kind, json.dumps({name: golden[name] for name in needed}).encode())
    for name in needed:
        with pytest.raises(ValueError, match=kind.__name__):
            wire.decode(kind, json.dumps({k: v for k, v in golden.items() if k != name}).encode())


@pytest.mark.parametrize("text", ["", "[]", "null", "1", '"x"', '{"version": "one"}', '{"version": 1, "attempts": {}}'])
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        wire.decode(wire.Ought, text.encode())


def test_a_log_body_is_laid_out_as_it_was() -> None:
    body = wire.pack_log([(10, 2, 1, 1.5), (12, 1, 2, 2.5)], b"abc")
    assert (
        body
        == struct.pack("<I", 2) + struct.pack("<QIBd", 10, 2, 1, 1.5) + struct.pack("<QIBd", 12, 1, 2, 2.5) + b"abc"
    )
    spans, data = wire.unpack_log(body)
    assert (spans, bytes(data)) == ([(10, 2, 1, 1.5), (12, 1, 2, 2.5)], b"abc")


@pytest.mark.parametrize("body", [b"", b"\1\0\0\0", struct.pack("<I", 0) + b"x", b"\xff\xff\xff\xff" + b"x" * 40])
def test_a_log_body_that_does_not_add_up_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="log"):
        wire.unpack_log(body)


def _less(golden: Any, written: Any, at: str = "") -> list[str]:
    """Where `written` lacks something of `golden`."""
    if isinstance(golden, dict) and isinstance(written, dict):
        return [line for key in golden for line in _less(golden[key], written.get(key, "(absent)"), f"{at}.{key}")]
    return [] if golden == written or (_both_lists(golden, written) and not _unlike(golden, written, at)) else [at]


def _both_lists(one: Any, other: Any) -> bool:
    return isinstance(one, list) and isinstance(other, list) and len(one) == len(other)


def _unlike(golden: list[Any], written: list[Any], at: str) -> list[str]:
    return [line for i, (a, b) in enumerate(zip(golden, written, strict=True)) for line in _less(a, b, f"{at}[{i}]")]


def _grown(value: Any, kind: Any) -> Any:
    """With a field from the future in every message, free-form objects left alone."""
    if not dataclasses.is_dataclass(kind) or not isinstance(value, dict):
        return value
    grown = {**value, "from_the_future": {"a": [1]}}
    for name, text in ((f.name, str(f.type)) for f in dataclasses.fields(kind)):
        inner = next((MESSAGES[m] for m in MESSAGES if text in (f"list[{m}]", f"Optional[{m}]")), None)
        if inner is not None and isinstance(value.get(name), list):
            grown[name] = [_grown(one, inner) for one in value[name]]
        elif inner is not None:
            grown[name] = _grown(value.get(name), inner)
    return grown
