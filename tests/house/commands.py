"""The command line as a tree, for those who print it and those who check what documents say of it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from provisioner.cli.dispatch import root


def every_command() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """(words after `runner`, command), groups before what is in them; hidden ones left out."""
    yield from _walk((), root, click.Context(root, info_name="runner"))


def _walk(
    path: tuple[str, ...], command: click.Command, context: click.Context
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if path:
        yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _walk((*path, name), inner, click.Context(inner, info_name=name, parent=context))


def check_line(words: list[str]) -> str:
    """What is wrong with a command line that starts with `runner`; empty when every word of it is known."""
    if words[1:] in (["--version"], ["--help"]):
        return ""  # answered before any command is looked at
    command: click.Command = root
    context = click.Context(root, info_name="runner")
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        inner = command.get_command(context, rest[0])
        if inner is None:
            return f"there is no command {rest[0]!r}"
        command, context, rest = inner, click.Context(inner, info_name=rest[0], parent=context), rest[1:]
    known = {word for option in command.get_params(context) for word in (*option.opts, *option.secondary_opts)}
    for word in rest:
        if word == "--":
            break
        if word.startswith("-") and word != "-" and word.partition("=")[0] not in known:
            return f"it has no option {word}"
    return ""
