"""From words to a command: one table of names, each command in a file of its own, imported when it is named."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator

import click

from .failures import CliError

# Name -> (module, section of the help). The first is the command's own function in that module.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "Work"),
    "launch": ("launch", "Work"),
    "ps": ("ps", "Watch"),
    "show": ("show", "Watch"),
    "logs": ("logs", "Watch"),
    "why": ("why", "Watch"),
    "machines": ("machines", "Watch"),
    "events": ("events", "Watch"),
    "pull": ("pull", "Results"),
    "report": ("report", "Results"),
    "gate": ("gate", "Results"),
    "comment": ("comment", "Results"),
    "cancel": ("cancel", "Control"),
    "stop": ("stop", "Control"),
    "ssh": ("ssh", "Control"),
    "rerun": ("rerun", "Control"),
    "offers": ("offers", "Money"),
    "serve": ("serve", "Operate"),
    "doctor": ("doctor", "Operate"),
    "gc": ("gc", "Operate"),
    "token": ("token", "Operate"),
    "secret": ("secret", "Operate"),
    "hosts": ("hosts", "Operate"),
    "pools": ("pools", "Operate"),
    "db": ("db", "Operate"),
    "cml": ("cml", "Operate"),
    "completion": ("completion", "Operate"),
}


class Commands(click.Group):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"provisioner.cli.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else "`runner --help` lists them"
            raise CliError(f"unknown command {args[0]!r}", hint, 2)
        return super().resolve_command(ctx, args)


root = Commands(name="runner", help="Rents GPU machines for as long as there is work for them.")


def run(words: list[str]) -> int:
    """The exit code."""
    try:
        with _pipes():
            result = root.main(args=words, prog_name="runner", standalone_mode=False)
            return result if isinstance(result, int) else 0
    except CliError as error:
        click.echo(f"runner: {error.line}", err=True)
        return error.code
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(f"runner: {_of_group(error.ctx)}", err=True)
        return 2
    except click.ClickException as error:
        click.echo(f"runner: {' '.join(error.format_message().split())}", err=True)
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("runner: interrupted", err=True)
        return 130
    except Exception as error:
        return _ours(error)


def _of_group(context: click.Context) -> str:
    """What to say after a group's name there has to be."""
    group = context.command
    named = group.commands.items() if isinstance(group, click.Group) else ()
    names = sorted(name for name, one in named if not one.hidden)
    return f"`{context.command_path}` needs a command; `{context.command_path} --help` tells of {', '.join(names)}"


def _ours(error: Exception) -> int:
    """Errors of the controller's own classes, met by commands that work without one; anything else is a bug."""
    hint = getattr(error, "hint", None)
    if isinstance(error, OSError) and error.filename:
        click.echo(f"runner: cannot use {error.filename}: {error.strerror}", err=True)
        return 3
    if hint is None:
        if os.environ.get("RUNNER_DEBUG_CLI"):
            raise error
        click.echo(f"runner: this is a bug: {error!r}; please report it", err=True)
        return 125
    click.echo(f"runner: {CliError(str(error), hint, 0).line}", err=True)
    return 2 if type(error).__name__ in ("InvalidRequest", "NotFound") else 3


@contextlib.contextmanager
def _pipes() -> Iterator[None]:
    """A reader that has gone away is no error of ours."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
