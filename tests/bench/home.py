"""A home of its own for one benchmark, with the real time-outs, ended with everything in it."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.system.world import World

from .installed import runner


@dataclass
class Installed(World):
    """The world of the system tests, with the installed command instead of the checkout."""

    scale: str = "1"

    def command(self, *words: str) -> list[str]:
        return [str(runner()), *words]


@dataclass
class WithExtras(Installed):
    """The checkout under the interpreter that runs the benchmark, which has the extras that S3 needs."""

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "provisioner", *words]


@contextlib.contextmanager
def installed(settings: str = "", kind: type[Installed] = Installed) -> Iterator[Installed]:
    """`settings` is the text of settings.yaml."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        made = kind(Path(folder) / "h")
        made.home.mkdir(mode=0o700)
        if settings:
            (made.home / "settings.yaml").write_text(settings)
        try:
            yield made
        finally:
            made.close()
