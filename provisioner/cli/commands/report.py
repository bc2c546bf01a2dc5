"""`runner report`: what jobs left as Markdown, printed, written or posted; `--watch` keeps it up to date."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from provisioner.cli import arguments, render
from provisioner.cli.amounts import duration
from provisioner.cli.embedded import connected
from provisioner.cli.failures import CliError, Unreachable
from provisioner.cli.left import Published, ended, fetch_left

_INPUTS = ("metrics", "junit", "plots", "dvclive", "dvc_diff")
_LEAST_S = 1.0


@click.command()
@arguments.jobs
@click.option("--metrics", multiple=True, metavar="FILE", help="Files of metrics: JSON, YAML, TOML.")
@click.option("--junit", multiple=True, metavar="FILE", help="JUnit XML.")
@click.option("--plots", multiple=True, metavar="PATH", help="Images and series (TSV, CSV, JSON), or folders of them.")
@click.option("--dvclive", multiple=True, metavar="DIR", help="Folders that DVCLive wrote.")
@click.option("--dvc-diff", multiple=True, metavar="FILE", help="What `dvc metrics diff --json` printed.")
@click.option("--base", default="", metavar="FILE|REF", help="Compare with this (default: where a pull request began).")
@click.option("--metric", "gates", multiple=True, metavar="GATE", help="Show how this gate goes, as in `runner gate`.")
@click.option("--higher-better", multiple=True, metavar="METRIC", help="Say whether a change is better or worse.")
@click.option("--lower-better", multiple=True, metavar="METRIC", help="The same, for metrics that should go down.")
@click.option(
    "--title",
    default="Report",
    callback=arguments.named,
    help="The heading; a report of another title is another comment.",
)
@click.option("--charts", type=click.Choice(["mermaid", "svg", "none"]), default="mermaid")
@click.option("--assets", type=click.Path(path_type=Path), help="Write charts as SVG into this folder.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the Markdown here, not to standard output.")
@click.option("--publish", is_flag=True, help="Put images into the controller's object store, and link to them.")
@click.option("--post", is_flag=True, help="Post it, or bring what was posted up to date.")
@click.option("--target", default="", metavar="TARGET", help="pr/42, issue/1 or commit/SHA (default: this CI step's).")
@click.option("--repo", default="", metavar="URL", help="Post to this repository (default: this CI step's).")
@click.option("--forge", default="", metavar="KIND", help="What kind of forge it is, if its host does not tell.")
@click.option("--check/--no-check", default=True, help="Also post a check, or commit status, with the conclusion.")
@click.option("--summary", metavar="FILE", help="Append it to this file (default with --post: the step's summary).")
@click.option("--watch", is_flag=True, help="Keep it up to date until the jobs end, or until interrupted.")
@click.option("--every", default="15s", metavar="TIME", help="With --watch: look this often.")
@click.option("--json", "as_json", is_flag=True)
def command(jobs: tuple[str, ...], watch: bool, every: str, **asked: Any) -> None:
    """Turn what jobs left, or what lies here, into Markdown."""
    if watch and not (asked["post"] or asked["output"]):
        raise CliError("--watch has nothing to keep up to date", "add --post, or --output FILE")
    with tempfile.TemporaryDirectory(prefix="runner-report-") as folder:
        one = _Reporting(jobs, asked, Path(folder))
        if watch:
            one.watch(max(_LEAST_S, duration(every, "--every")))
        else:
            one.draw()
            one.deliver(final=True)


class _Reporting:
    """One report, drawn and delivered once or again and again."""

    def __init__(self, jobs: tuple[str, ...], asked: dict[str, Any], folder: Path) -> None:
        from provisioner import app

        self._app = app
        self._jobs, self._asked, self._folder = jobs, asked, folder
        self._client = connected() if jobs or asked["publish"] else None
        self._shown: Callable[[Path], str] = (
            Published(self._client) if asked["publish"] and self._client else self._path
        )
        self._where = app.place_to_post(asked["target"], asked["repo"], asked["forge"]) if asked["post"] else None
        self._better = dict.fromkeys(asked["higher_better"], True) | dict.fromkeys(asked["lower_better"], False)
        self._made: Any = None
        self._text = ""
        self.over = False

    def draw(self) -> bool:
        """Look again; whether there is anything new to say. Raises: CliError, RequestError."""
        left = [fetch_left(self._client, job, self._folder) for job in self._jobs if self._client]
        wanted = {name: self._asked[name] for name in ("title", "gates", "base", "charts", "assets")}
        wanted |= {"better": self._better, "shown": self._shown}
        inputs = {name: self._asked[name] for name in _INPUTS}
        self._made = self._app.report(wanted, inputs, left)
        self.over = bool(left) and all(ended(one) for one in left)
        before, self._text = self._text, self._made.text()
        return self._text != before

    def deliver(self, *, final: bool) -> None:
        """Where it was asked to be. The summary and the check are said once, at the end. Raises: ForgeError."""
        if output := self._asked["output"]:
            _write(output, self._text)
        if final:
            self._finish()
        if self._where is not None:
            check = (self._asked["title"], self._made.conclusion, self._made.summary or self._asked["title"])
            told = check if final and self._asked["check"] else None
            address = self._app.post(self._where, self._made.text, self._asked["title"], told)
            if final:
                render.say(f"runner: {address}")

    def _finish(self) -> None:
        summary = self._asked["summary"] or (self._app.step_summary() if self._where is not None else "")
        if summary:
            with open(summary, "a", encoding="utf-8") as file:
                file.write(self._text)
        if self._asked["as_json"]:
            render.as_json(self._made.plain())
        elif not self._asked["output"] and self._where is None:
            print(self._text, end="")

    def watch(self, every_s: float) -> None:
        """Until the jobs have ended or somebody interrupts, and then once more. What fails meanwhile is tried again."""
        with _interrupted() as stop:
            while True:
                pause_s = self._turn(every_s)
                if self.over or stop.wait(pause_s):
                    break
        self.draw()
        self.deliver(final=True)

    def _turn(self, every_s: float) -> float:
        """Seconds until the next."""
        from provisioner.domain.errors import ForgeError, ForgeThrottled, RequestError

        try:
            if self.draw():
                self.deliver(final=False)
        except ForgeThrottled as error:
            return max(every_s, error.retry_after_s)
        except (ForgeError, RequestError, Unreachable) as error:
            self._text = ""
            render.say(f"runner: {error.line}; it is tried again")
        return every_s

    def _path(self, path: Path) -> str:
        """As seen from where the Markdown will be; "" where others are to read it, and for what is here no longer than
        this command."""
        if self._asked["post"] or self._folder in path.parents:
            return ""
        top = self._asked["output"].parent if self._asked["output"] else Path()
        return os.path.relpath(path, top)


def _write(path: Path, text: str) -> None:
    """Whole, or not at all: somebody may be looking."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}", code=1) from error


@contextlib.contextmanager
def _interrupted() -> Iterator[threading.Event]:
    """Set when somebody wants this to end; a second time it ends at once."""
    stop, before = threading.Event(), dict[int, Any]()

    def told(number: int, frame: object) -> None:
        threading.Thread(target=stop.set).start()  # whoever it interrupts may hold the event's own lock just then
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, told)
    try:
        yield stop
    finally:
        for restored, handler in before.items():
            signal.signal(restored, handler)
