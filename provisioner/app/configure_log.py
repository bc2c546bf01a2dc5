"""The controller's own log: one JSON object a line on stderr; levels by name, secrets never in it."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TextIO, cast

import structlog


class _Stderr:
    """A log that cannot be written, because its disk is full or its reader has gone, is no reason to stop."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            os.write(2, text.encode())
        return len(text)

    def flush(self) -> None:
        return


def configure() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Stderr())),
        cache_logger_on_first_use=True,
    )
