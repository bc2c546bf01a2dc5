"""`runner gate`: metrics and tests against what was asked of them; the exit code is the answer."""

from __future__ import annotations

import click

from provisioner.cli import render

FAILED = 1


@click.command()
@click.option("--metric", "metrics_asked", multiple=True, metavar="GATE", help="As in 'loss <= base * 1.05'.")
@click.option(
    "--metrics", multiple=True, metavar="FILE", help="Files of metrics: JSON, YAML, TOML (default: metrics.json)."
)
@click.option("--junit", multiple=True, metavar="FILE", help="JUnit XML; no failure, no error and a test are implied.")
@click.option("--dvclive", multiple=True, metavar="DIR", help="Folders that DVCLive wrote.")
@click.option("--dvc-diff", multiple=True, metavar="FILE", help="What `dvc metrics diff --json` printed.")
@click.option(
    "--base", default="", metavar="FILE|REF", help="What `base` means (default: where the pull request began)."
)
@click.option("--json", "as_json", is_flag=True)
def command(
    metrics_asked: tuple[str, ...],
    metrics: tuple[str, ...],
    junit: tuple[str, ...],
    dvclive: tuple[str, ...],
    dvc_diff: tuple[str, ...],
    base: str,
    as_json: bool,
) -> int:
    """Judge metrics and tests: exits with 0 if all pass, 1 if one fails, 2 if one cannot be judged."""
    from provisioner import app

    inputs = {"metrics": metrics, "junit": junit, "dvclive": dvclive, "dvc_diff": dvc_diff}
    verdicts = app.gate(metrics_asked, inputs, base)
    if as_json:
        render.as_json([{key: value for key, value in one.items() if key != "line"} for one in verdicts])
    else:
        for one in verdicts:
            render.line(one["line"])
    return 0 if all(one["passed"] for one in verdicts) else FAILED
