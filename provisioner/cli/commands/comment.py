"""`runner comment`: any Markdown as a comment on a pull request, an issue or a commit."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from provisioner.cli import arguments, render
from provisioner.cli.embedded import connected
from provisioner.cli.failures import CliError
from provisioner.cli.left import Published

_OPTIONS = (
    click.argument("file"),
    click.option("--target", default="", metavar="TARGET", help="pr/42, issue/1 or commit/SHA (default: this step's)."),
    click.option("--repo", default="", metavar="URL", help="The repository (default: this CI step's)."),
    click.option("--forge", default="", metavar="KIND", help="What kind of forge it is, if its host does not tell."),
    click.option("--publish", is_flag=True, help="Put local images into the object store, and link to them."),
    click.option("--json", "as_json", is_flag=True),
)


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def command() -> None:
    """Comment on a pull request, an issue or a commit."""


@command.command()
@_shared
def create(file: str, **asked: Any) -> None:
    """Add a comment with the Markdown of FILE (-: standard input)."""
    _say(file, "", **asked)


@command.command()
@_shared
@click.option(
    "--title", default="comment", callback=arguments.named, help="Which one: comments of another title are left alone."
)
def update(file: str, title: str, **asked: Any) -> None:
    """Bring the comment of this title up to date, or add it."""
    _say(file, title, **asked)


def _say(file: str, key: str, *, target: str, repo: str, forge: str, publish: bool, as_json: bool) -> None:
    from provisioner import app

    where = app.place_to_post(target, repo, forge)
    text, folder = _read(file)
    if publish:
        with tempfile.TemporaryDirectory(prefix="runner-comment-") as aside:
            text = app.comment_text(text, folder, Published(connected()), Path(aside))

    def write(longest: int) -> str:
        if len(text) > longest:
            said = f"the comment has {len(text)} characters, and {where.site.kind} takes {longest}"
            raise CliError(said, "shorten it; nothing was posted")
        return text

    address = app.post(where, write, key)
    if as_json:
        render.as_json({"id": address, "target": f"{where.target.what}/{where.target.ref}"})
    else:
        print(address)


def _read(file: str) -> tuple[str, Path]:
    """The Markdown, and the folder that its images are in."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise CliError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CliError(f"{file} is not UTF-8 text") from error
    if not text.strip():
        raise CliError(f"{file} is empty", "nothing was posted")
    return text, Path() if file == "-" else Path(file).parent
