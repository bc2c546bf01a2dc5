"""The generated pages of docs/reference, one function each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import click
from pydantic import BaseModel

from provisioner.domain.policy import Policy
from provisioner.forges.registry import known
from provisioner.settings import ENVIRONMENT, Settings

from . import commands, job_file, scan, words
from .http_routes import described

_MADE = "<!-- made by `python -m tests.house.generate` -->"


def settings() -> str:
    keys = ((f"`{name}`", f"`{default}`" if default != "" else "", words.SETTINGS[name]) for name, default in _keys())
    tokens = list(dict.fromkeys(token for one in known() for token in one.tokens))
    listed = f"{', '.join(tokens[:-1])} or {tokens[-1]}"
    variables = ((f"`{name}`", meaning.replace("{tokens}", listed)) for name, meaning in ENVIRONMENT.items())
    return page(
        words.SETTINGS_INTRO,
        table(("key", "default", "meaning"), keys),
        words.ENVIRONMENT_INTRO,
        table(("variable", "meaning"), variables),
    )


def _keys(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, field in model.model_fields.items():
        default: Any = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from _keys(type(default), f"{prefix}{name}.")
        else:
            yield prefix + name, default


def policy() -> str:
    values = ((f.name, getattr(Policy(), f.name)) for f in fields(Policy))
    rows = ((f"`{name}`", f"{value:,}", words.POLICY[name]) for name, value in values)
    return page(words.POLICY_INTRO, table(("name", "default", "meaning"), rows))


def events() -> str:
    rows = ((f"`{name}`", words.EVENTS[name]) for name in scan.events())
    return page(words.EVENTS_INTRO, table(("event", "meaning"), rows))


def command_line() -> str:
    described = [_command(path, it) for path, it in commands.every_command() if not isinstance(it, click.Group)]
    return page(words.COMMANDS_INTRO, *described)


def _command(path: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name="runner " + " ".join(path))
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    rows = [
        (f"`{names}`", _plain(about))
        for param in command.get_params(context)
        if isinstance(param, click.Option) and "--help" not in param.opts
        for names, about in [param.get_help_record(context) or ("", "")]
        if names
    ]
    parts = [f"## runner {' '.join(path)}", _plain(command.help or ""), f"    {usage}"]
    return "\n\n".join([*parts, table(("option", "meaning"), rows)] if rows else parts)


def _plain(text: str) -> str:
    """Help text without click's paragraph marks."""
    return "\n".join(line.strip() for line in text.replace("\b", "").strip().splitlines())


def http_api() -> str:
    rows = ((f"`{method}`", f"`{path}`", about) for method, path, about in described())
    return page(words.API_INTRO, table(("method", "path", "what"), rows))


def job() -> str:
    return page(
        words.JOB_FILE_INTRO,
        table(("key", "what it must be"), job_file.keys()),
        "## Resources",
        table(("key", "meaning"), job_file.resources()),
        words.JOB_ENVIRONMENT_INTRO,
        table(("variable", "says"), ((f"`{name}`", words.GIVEN_TO_JOBS[name]) for name in scan.given_to_jobs())),
        words.JOB_FILE_EXAMPLE,
    )


def page(*parts: str) -> str:
    """Parts with a blank line between them, under a note on where they come from."""
    return "\n\n".join([_MADE, *parts]) + "\n"


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    columns = list(head)
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |")
    return "\n".join(lines)


PAGES: Mapping[str, Callable[[], str]] = {
    "command-line.md": command_line,
    "events.md": events,
    "http-api.md": http_api,
    "job-file.md": job,
    "policy.md": policy,
    "settings.md": settings,
}
