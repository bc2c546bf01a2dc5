"""What GitHub itself publishes, fetched with npm: its description is what our extract is made of, and its example
webhooks are understood."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import subprocess
import tarfile
from typing import Any

import pytest

from provisioner.domain.forge import CiJobState, Delivery, ForgeKind, Site
from provisioner.forges.github.webhooks import delivery
from tests.fakes.github.distil import KEPT_AT, distil, load, pack
from tests.house.places import TOP

pytestmark = pytest.mark.system
EXAMPLES = "7.6.1"
SECRET = "it is a secret"


def published(name: str, version: str, member: str) -> Any:
    """A JSON file of an npm package, which is kept in .cache."""
    kept = TOP / ".cache/npm"
    archive = kept / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not archive.exists():
        if shutil.which("npm") is None:
            pytest.skip(f"npm is not installed: {name} cannot be fetched")
        kept.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["npm", "pack", "--silent", f"{name}@{version}", "--pack-destination", str(kept)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"npm cannot fetch {name}@{version}: {done.stderr.strip()[-200:]}")
    with tarfile.open(archive) as opened:
        file = opened.extractfile(f"package/{member}")
        assert file is not None
        return json.load(file)


@pytest.mark.timeout(400)
def test_the_extract_is_made_of_what_github_publishes() -> None:
    told = load()["info"]["x-distilled-from"]
    source = published(told["package"], told["version"], "generated/api.github.com.json")
    assert pack(distil(source, told["version"], told["on"])) == KEPT_AT.read_bytes()


@pytest.fixture(scope="module")
def examples() -> dict[str, list[dict[str, Any]]]:
    found = published("@octokit/webhooks-examples", EXAMPLES, "api.github.com/index.json")
    return {one["name"]: one["examples"] for one in found}


def read(event: str, payload: dict[str, Any]) -> Delivery:
    body = json.dumps(payload).encode()
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-github-event": event, "x-github-delivery": "1", "x-hub-signature-256": f"sha256={digest}"}
    return delivery(Site(ForgeKind("github"), "https://github.com", ""), headers, body, SECRET)


def test_published_jobs_are_understood(examples: dict[str, list[dict[str, Any]]]) -> None:
    """Eight: one runs on its owner's machine, five on GitHub's, and two wait for an approval, one of which says that it
    is queued."""
    told = [read("workflow_job", one) for one in examples["workflow_job"]]
    jobs = [one.job for one in told if one.job is not None]
    assert len(told) == 8
    assert [(job.state, job.labels, job.repository, job.runner_name) for job in jobs] == [
        (CiJobState.RUNNING, ("gpu", "db-app", "dc-03"), "octo-org/example-workflow", "my runner")
    ]
    assert sorted(one.facts["action"] for one in told) == sorted(one["action"] for one in examples["workflow_job"])


def test_published_runs_are_understood(examples: dict[str, list[dict[str, Any]]]) -> None:
    told = [read("workflow_run", one).facts for one in examples["workflow_run"]]
    assert [(one["action"], one["fork"]) for one in told] == [("completed", "no")] * 3 + [("requested", "no")] * 2
    runs = [one["workflow_run"] for one in examples["workflow_run"]]
    assert [one.get("conclusion") for one in told] == [run["conclusion"] for run in runs]
    assert [one["id"] for one in told] == [str(run["id"]) for run in runs]


def test_every_other_published_webhook_is_let_pass(examples: dict[str, list[dict[str, Any]]]) -> None:
    others = [(event, one) for event in examples if not event.startswith("workflow_") for one in examples[event]]
    assert len(others) > 100
    assert {read(event, one).job for event, one in others} == {None}
