"""Which providers there are: one line each. A cloud's own library is imported only when the cloud is named."""

from __future__ import annotations

NAMES = ("local", "aws")
