"""The text of `runner --help`, kept in help.txt; `python -m provisioner.cli.help_page` writes it anew."""

from __future__ import annotations

from pathlib import Path

import click

from .dispatch import COMMANDS, root

KEPT = Path(__file__).with_name("help.txt")
_HEAD = """\
usage: runner COMMAND [OPTIONS] [-- WORDS...]

Rents machines for as long as there is work for them and not a minute longer.
With RUNNER_SERVER unset, a controller of your own is started when one is needed.
"""
_FOOT = """
`runner COMMAND --help` tells more; --version prints the version.
"""


def text() -> str:
    """Sections in the order of the table, a line a command."""
    lines = [_HEAD]
    section = ""
    context = click.Context(root)
    for name, (_, under) in COMMANDS.items():
        if under != section:
            section = under
            lines.append(f"\n{section}\n")
        command = root.get_command(context, name)
        assert command is not None
        lines.append(f"  {name:12}{command.get_short_help_str(80)}\n")
    return "".join(lines) + _FOOT


if __name__ == "__main__":
    KEPT.write_text(text())
