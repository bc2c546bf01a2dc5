"""What some features need installed beside the rest: what to do where it is not there."""

from __future__ import annotations


def installed_by(*extras: str) -> str:
    """A hint. Never by the distribution's name: on the public package index that is not ours."""
    return f"at the top of the clone: pip install '.[{','.join(extras)}]'"
