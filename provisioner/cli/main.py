"""`runner`: finds the command and imports only that.

`--version` and `--help` import nothing at all: the help is kept in help.txt, which a test compares with the commands.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """The console script. Exits with the code that the command's page names; never with a traceback."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_closed_streams()
    try:
        code = _quick(sys.argv[1:])
        if code is None:
            from .dispatch import run

            code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _open_closed_streams() -> None:
    """Whoever started us closed some of the first three (`>&-`): no file or socket of ours may take their places."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _quick(words: list[str]) -> int | None:
    """What can be answered without importing anything; None for commands, and when a shell asks for completions."""
    if "_RUNNER_COMPLETE" in os.environ:
        return None
    if words == ["--version"]:
        from provisioner import __version__

        return _out(f"runner {__version__}\n")
    if words in ([], ["--help"], ["-h"]):
        with open(os.path.join(os.path.dirname(__file__), "help.txt"), encoding="utf-8") as file:
            return _out(file.read())
    return None


def _out(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0
