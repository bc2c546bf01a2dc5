"""What the agent says to the machine's console: one JSON object a line on stderr, an event's name and its fields.

Anything may be put in a field except a secret, the join token or the session. Nothing reads these lines but people.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from typing import Any

_LOCK = threading.Lock()


def say(what: str, **fields: Any) -> None:
    """`what` is a constant in the past tense: `attempt.started`. A console that is gone is no reason to stop."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = json.dumps({"at": at, "what": what, **fields}, default=str)
    with _LOCK, contextlib.suppress(OSError, ValueError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
