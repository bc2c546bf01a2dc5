"""`runner completion`: a script for the shell."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from provisioner.cli.dispatch import root

    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(root, {}, "runner", "_RUNNER_COMPLETE").source())
