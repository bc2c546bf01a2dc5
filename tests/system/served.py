"""`runner serve` in a world of its own."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from tests.fakes.ports import free_port, listening
from tests.system.world import World


@contextlib.contextmanager
def served(w: World, *options: str, port: int = 0) -> Iterator[int]:
    """A controller on a free port (or this one), ended kindly."""
    port = port or free_port()
    with (w.home.parent / "serve.log").open("ab") as log:
        running = subprocess.Popen(
            w.command("serve", "--port", str(port), *options), env=w.environment, stdout=log, stderr=log
        )
    try:
        w.until(lambda: listening(port), 60, "the port to open")
        yield port
    finally:
        running.terminate()
        assert running.wait(30) == 0, (w.home.parent / "serve.log").read_text()
