"""Messages to JSON and back: dataclasses whose fields are checked against their types, unknown ones passed over."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def encode(message: Any) -> bytes:
    """A message as UTF-8 JSON."""
    return json.dumps(dataclasses.asdict(message), separators=(",", ":")).encode()


def decode(kind: type[T], data: bytes) -> T:
    """A message from JSON; unknown fields are ignored. Raises: ValueError when it is not such a message."""
    return build(kind, json.loads(data))


def build(kind: type[T], value: Any) -> T:
    """A message from what its JSON says. Raises: ValueError when it is not such a message."""
    try:
        built: T = _build(kind, value)
        return built
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a {kind.__name__}: {error}") from error


_HINTS: dict[Any, dict[str, Any]] = {}


_SCALARS: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}


def _build(kind: Any, value: Any) -> Any:
    """Raises: TypeError when `value` is not of `kind`; nothing is converted."""
    if dataclasses.is_dataclass(kind):
        _check(isinstance(value, dict), kind, value)
        hints = _HINTS.get(kind)
        if hints is None:
            hints = _HINTS[kind] = typing.get_type_hints(kind)
        return kind(**{name: _build(hints[name], value[name]) for name in hints if name in value})  # type: ignore[operator]
    origin = typing.get_origin(kind)
    if origin is list:
        _check(isinstance(value, list), kind, value)
        (item,) = typing.get_args(kind)
        return [_build(item, one) for one in value]
    if origin is dict:
        _check(isinstance(value, dict), kind, value)
        item = typing.get_args(kind)[1]
        return {name: _build(item, one) for name, one in value.items()}
    if origin is typing.Union and value is not None:
        (inner,) = [one for one in typing.get_args(kind) if one is not type(None)]
        return _build(inner, value)
    if kind in _SCALARS:
        _check(isinstance(value, _SCALARS[kind]) and (kind is bool or not isinstance(value, bool)), kind, value)
    return value


def _check(fits: bool, kind: Any, value: Any) -> None:
    if not fits:
        raise TypeError(f"expected {getattr(kind, '__name__', kind)}, got {type(value).__name__}")
