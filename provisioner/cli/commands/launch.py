"""`runner launch`: machines that are self-hosted runners of a forge, from a step of its own CI or from anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from provisioner import app
from provisioner.cli import embedded, handover, jobfile, of_step, render, resources, step_output
from provisioner.cli.amounts import counted, duration
from provisioner.cli.client import Client
from provisioner.cli.coming import Coming, Interrupted, interruptible
from provisioner.cli.failures import OURS, REFUSED, CliError
from provisioner.cli.forge_rights import Rights, named
from provisioner.cli.of_step import StepController
from provisioner.domain.forge import Site
from provisioner.domain.launching import CiRun, Names, names_of, parse_labels

_MOST = 100  # arbitrary
_LONGER_S = 30.0  # than the command itself waits, which says more about why; arbitrary
_OF_ITS_COMMAND = ("online_within_s", "awaited")  # and not of what is launched
_TURNS = 50  # of one launch whose runners have ended and that is asked for again; arbitrary


@click.command()
@resources.options
@click.option("--repo", default="", metavar="URL", help="Where they serve: a repository, organisation or group.")
@click.option("--forge", default="", metavar="KIND", help="What kind of forge it is, if its host does not tell.")
@click.option("--labels", default="", metavar="A,B", help="Labels beside the run's own; any job may ask for these.")
@click.option("--pool", default="", metavar="NAME", help="On a machine as those of this pool of the controller.")
@click.option("--count", type=click.IntRange(1, _MOST), default=1, show_default=True, help="So many runners.")
@click.option(
    "--jobs", type=click.Choice(["one", "many"]), default="one", show_default=True, help="Each serves so many."
)
@click.option("--group", default="", help="The runner group, where the forge has such.")
@click.option("--idle-timeout", default="10m", show_default=True, help="It goes after waiting this long for a job.")
@click.option("--max-lifetime", help="End the machine after this long, whatever it does.")
@click.option("--name", default="", help="What to call it; tells launches of one CI job apart.")
@click.option("--wait", "wait", default="14m", show_default=True, help="Give up, and leave nothing, after this long.")
@click.option("--detach", is_flag=True, help="Do not wait until they are online.")
@click.option("--dotenv", type=click.Path(path_type=Path), help="Write the labels as variables (GitLab: runner.env).")
@click.option("--cancel", is_flag=True, help="Cancel what this step launched by the same words, and launch nothing.")
@click.option("--json", "as_json", is_flag=True)
def command(**given: Any) -> int:
    """Launch self-hosted CI runners, and wait until they are online.

    In a CI step without RUNNER_SERVER they are handed over to themselves before it ends."""
    run = app.forge_kinds().run(os.environ)
    given["wait"] = duration(given["wait"], "--wait")
    need = jobfile.spec({"run": "true", "resources": resources.asked(given) or None})["need"]
    if given["cancel"] and run is None:
        raise CliError("only a CI step knows again what it launched", "`runner cancel JOB` cancels one")
    if run is None or os.environ.get("RUNNER_SERVER"):
        return _with(embedded.connected(), given, need, run)
    of_step.check(given, need.get("providers") or ())
    if given["cancel"]:
        render.say(of_step.NOTHING_TO_CANCEL)
        return 0
    with of_step.controller() as own:
        return _with(own.client, given, need, run, own)


def _with(
    client: Client, given: dict[str, Any], need: dict[str, Any], run: CiRun | None, own: StepController | None = None
) -> int:
    site = _site(client, given, run)
    wanted = _wanted(given, need, site, run)
    wait_s: float = given["wait"]
    if not given["detach"]:
        wanted.spec["runner"] |= {"online_within_s": wait_s + _LONGER_S, "awaited": True}
    rights = Rights(site, run)
    launch = _Launch(client, wanted, rights, own.again if own is not None else embedded.again)
    if given["cancel"]:
        return launch.cancel()
    told: list[dict[str, Any]] = []
    with interruptible():
        try:
            until_s = time.monotonic() + wait_s
            jobs = launch.start()
            if not given["detach"]:
                launch.coming.wait(jobs, wait_s)
            if own is not None:
                told = own.hand_over(jobs, until_s, launch.rights)
        except Interrupted:
            render.say("runner: interrupted; what was launched is cancelled")
            launch.coming.take_back()
            return 130
        except CliError as error:
            had = bool(launch.coming.sent)
            launch.coming.take_back()
            raise (CliError(error.message, error.hint, OURS) if had else error) from error
    if own is None:
        return _say(given, run, wanted, jobs)
    own.release()
    for one in told:
        render.say(f"runner: {one['runner']} looks after itself now: {step_output.bound(one)}")
    if run is not None and run.summary:
        step_output.write_bounds(Path(run.summary), told)
    return _say(given, run, wanted, [])  # nobody can be asked about these jobs any more


@dataclass(frozen=True)
class _Wanted:
    names: Names
    labels: tuple[str, ...]
    count: int
    spec: dict[str, Any]


def _site(client: Client, given: dict[str, Any], run: CiRun | None) -> Site:
    """What was named, else where the step stands. Raises: InvalidRequest, CliError."""
    if not given["repo"]:
        if run is None:
            raise CliError("where should they serve?", "give --repo URL; a CI step's own repository is known")
        return run.site
    return named(client, given["repo"], given["forge"], run)


def _wanted(given: dict[str, Any], need: dict[str, Any], site: Site, run: CiRun | None) -> _Wanted:
    runner = {
        "url": site.url,
        "forge": str(site.kind),
        "jobs": given["jobs"],
        "group": given["group"],
        **({"pool": given["pool"]} if given["pool"] else {}),
        "idle_s": duration(given["idle_timeout"], "--idle-timeout"),
        **({"base": site.below} if site.below else {}),
    }
    spec: dict[str, Any] = {"run": [], "kind": "ci-runner", "name": given["name"], "need": need, "runner": runner}
    if given["max_lifetime"]:
        spec["max_lifetime_s"] = duration(given["max_lifetime"], "--max-lifetime")
    more = parse_labels(given["labels"])
    what = given["name"] or json.dumps([spec, more, given["count"]], sort_keys=True)
    digest = hashlib.sha256(what.encode()).hexdigest()
    names = names_of(run, digest, secrets.token_hex(8), named=bool(given["name"]))
    labels = (names.label, *(label for label in more if label != names.label))
    runner["labels"] = list(labels)
    spec["name"] = given["name"] or names.label
    return _Wanted(names, labels, given["count"], spec)


class _Launch:
    def __init__(
        self, client: Client, wanted: _Wanted, rights: Rights, again: Callable[[Client], None] = embedded.again
    ) -> None:
        self._client = client
        self._wanted = wanted
        self._rights = rights
        self._clouds = handover.of_job(client, wanted.spec["need"])
        self.coming = Coming(client, self.rights, again)

    def start(self) -> list[str]:
        """The jobs' ids. Those of an earlier try of this step are found again, not made again."""
        self._clouds.begin(self._client)
        self._rights.begin(self._client)
        return [self._submitted(index) for index in range(1, self._wanted.count + 1)]

    def _submitted(self, index: int) -> str:
        for turn in range(1, _TURNS + 1):
            job_id = self._wanted.names.job(index, turn)
            job = self.coming.submit(job_id, self._wanted.spec)
            if job["phase"] != "done":
                self._check_same(job)
                return job_id
            self.coming.sent.remove(job_id)
        raise CliError(f"this step has launched {counted(_TURNS, 'runner')} already", "give another --name", REFUSED)

    def _check_same(self, job: dict[str, Any]) -> None:
        """An earlier try under this name asked for the same, or it is another launch."""
        stored = job["spec"]
        mine, its = {"pool": "", **self._wanted.spec["runner"]}, {"pool": "", **stored["runner"]}
        same = all(its.get(key) == value for key, value in mine.items() if key not in _OF_ITS_COMMAND)
        for key, value in self._wanted.spec["need"].items():
            has = (stored.get("need") or {}).get(key)
            same = same and (has == value or str(has) == str(value))
        if not same:
            self.coming.sent.remove(job["id"])
            raise CliError(f"{job['id']} was launched under this name and is something else", "give another --name")

    def cancel(self) -> int:
        for index in range(1, self._wanted.count + 1):
            for turn in range(1, _TURNS + 1):
                job_id = self._wanted.names.job(index, turn)
                try:
                    job = self._client.get(f"/jobs/{job_id}")
                except CliError:
                    break
                if job["phase"] != "done":
                    self.coming.sent.append(job_id)
        if not self.coming.sent:
            render.say("runner: nothing to cancel")
        self.coming.take_back()
        return 0

    def rights(self, client: Client) -> None:
        """For a controller that has lost what it was given."""
        self._clouds.again(client)
        self._rights.again(client)


def _say(given: dict[str, Any], run: CiRun | None, wanted: _Wanted, jobs: list[str]) -> int:
    label, labels = wanted.names.label, wanted.labels
    if run is not None and run.output:
        step_output.write_outputs(Path(run.output), label, labels, jobs)
    if dotenv := given["dotenv"] or (Path(run.dotenv) if run is not None and run.dotenv else None):
        step_output.write_dotenv(dotenv, label, labels, jobs)
    if given["as_json"]:
        render.as_json({"label": label, "labels": list(labels), "jobs": jobs})
    else:
        print(",".join(labels))
    return 0
