"""The loop: facts in, one pure decision, effects at the edge, everything recorded. Knows ports, never adapters."""

from .run import Engine

__all__ = ["Engine"]
