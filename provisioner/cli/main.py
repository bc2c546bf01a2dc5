"""`runner`: finds the command and imports only that.

`--version` and `--help` import nothing at all: the help is kept in help.txt, which a test compares with the commands.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """The console script. Exits with the code that the command's page names; never with a traceback."""
    words = sys.argv[1:]
    if words == ["--version"]:
        from provisioner import __version__

        print(f"runner {__version__}")
        return
    if words in ([], ["--help"], ["-h"]):
        sys.stdout.write((Path(__file__).parent / "help.txt").read_text())
        return
    from .dispatch import run

    sys.exit(run(words))
