"""How long `runner --version` and `runner --help` take, beside a bare interpreter doing nothing."""

from __future__ import annotations

from .installed import python, runner
from .measure import runs, say


def main() -> None:
    nothing = [str(python()), "-c", "pass"]
    runs(nothing, 5)
    bare = runs(nothing)
    say("python -c pass", str(bare))
    for word in ("--version", "--help"):
        command = [str(runner()), word]
        runs(command, 3)
        took = runs(command)
        say(f"runner {word}", f"{took}, {took.median_s / bare.median_s:.1f} x bare", "3 x bare, 30 MiB")


if __name__ == "__main__":
    main()
