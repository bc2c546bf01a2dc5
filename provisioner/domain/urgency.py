"""What must not wait behind what may: said once around a piece of work, and heard wherever work queues.

A pass that decides, and the answer to a forge, are urgent; what is done about one machine after the other is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_URGENT: ContextVar[bool] = ContextVar("urgent", default=False)


def is_urgent() -> bool:
    return _URGENT.get()


@contextmanager
def urgently(urgent: bool = True) -> Iterator[None]:
    """Tasks begun inside inherit it."""
    token = _URGENT.set(urgent)
    try:
        yield
    finally:
        _URGENT.reset(token)
