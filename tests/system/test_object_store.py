"""Whole jobs whose inputs, checkpoints and results are in S3: moto's server, and Ceph's gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.fakes import s3
from tests.system.world import World, world

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
_JOB = """
inputs:
  - {{from: "s3://{bucket}/set", to: data/}}
  - {{from: "s3://{bucket}/one.txt", to: here.txt}}
run: |
  cat data/a.txt data/deep/b.txt here.txt > joined.txt
  mkdir -p ckpt; echo $RUNNER_ATTEMPT >> ckpt/attempts; echo resumed=$RUNNER_RESUMED; sleep 2
  head -c 20000000 /dev/zero > large.bin
  test "$RUNNER_ATTEMPT" -ge 2
outputs: [joined.txt, large.bin]
checkpoint: {{path: ckpt, every: 1s}}
retries: 1
"""


@pytest.fixture(params=["moto", "ceph"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[s3.Server]:
    if request.param == "ceph" and (missing := s3.ceph_missing()):
        pytest.skip(missing)
    (folder := tmp_path / "s3").mkdir()
    with getattr(s3, request.param)(folder) as found:
        yield found


@pytest.fixture
def w(server: s3.Server, tmp_path: Path) -> Iterator[World]:
    keys = {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": "us-east-1",
        "RUNNER_OBJECTS_URL": "s3://team-data/runner",
    }
    with world(tmp_path, extra=keys) as made:
        yield made


def test_a_job_reads_from_and_delivers_to_an_object_store(w: World, server: s3.Server, tmp_path: Path) -> None:
    bucket = _bucket(server)
    put(bucket, {"set/a.txt": b"a\n", "set/deep/b.txt": b"b\n", "one.txt": b"one\n"})
    (tmp_path / "work").mkdir()
    (tmp_path / "work/job.yaml").write_text(_JOB.format(bucket="team-data"))
    job = w.submit("-f", "job.yaml", cwd=tmp_path / "work")
    done = w.wait_done(job)
    assert done["outcome"] == "succeeded", (done, w.run("logs", job).stdout)
    assert done["attempts"] == 2
    assert b"resumed=1" in w.run("logs", job, "--attempt", "2").stdout
    w.run("pull", job, str(tmp_path / "pulled"))
    assert (tmp_path / "pulled/joined.txt").read_bytes() == b"a\nb\none\n"
    assert (tmp_path / "pulled/large.bin").stat().st_size == 20_000_000

    put(bucket, {"set/a.txt": b"A\n"})
    again = json.loads(w.run("rerun", job, "--detach", "--json").stdout)["id"]
    assert w.wait_done(again)["outcome"] == "succeeded"
    w.run("pull", again, str(tmp_path / "pulled again"))
    assert (tmp_path / "pulled again/joined.txt").read_bytes() == b"A\nb\none\n"
    before, after = (w.job(one)["attempts_list"][-1]["facts"]["inputs"] for one in (job, again))
    assert before[0]["sha256"] != after[0]["sha256"]
    assert before[1]["sha256"] == after[1]["sha256"]
    w.nothing_left()


def _bucket(server: s3.Server) -> object:
    server.make_bucket("team-data")
    client = boto3.resource(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    return client.Bucket("team-data")


def put(bucket: object, files: dict[str, bytes]) -> None:
    for key, data in files.items():
        bucket.put_object(Key=key, Body=data)  # type: ignore[attr-defined]


def test_what_a_job_made_while_the_controller_was_away(w: World, server: s3.Server, tmp_path: Path) -> None:
    """Its files go up without the controller; handed over when it is back, and to be had if the machine dies before."""
    bucket = _bucket(server)
    script = "echo begun; sleep 3; seq 100000 > made.txt; echo $RUNNER_ATTEMPT > attempt.txt; echo ended"
    words = ("--no-workdir", "--output", "*.txt", "--", "sh", "-c", script)
    for dies in (False, True):
        job = w.submit(*words)
        w.until(lambda job=job: w.run("logs", job).stdout == b"begun\n", 30, "it to begin")
        time.sleep(0.5)
        w.kill("controller")
        left = f"runner/results/{job}/1/left.json"
        w.until(lambda left=left: _says_final(bucket, left), 30, "the manifest to be left")
        if dies:
            w.kill("respawn", "agent", "supervisor")
        done = w.wait_done(job)
        assert (done["outcome"], done["attempts"]) == ("succeeded", 2 if dies else 1), (done["attempts_list"], w.log())
        target = tmp_path / f"pulled-{dies}"
        w.run("pull", "--attempt", "1", job, str(target))
        assert (target / "made.txt").read_text().split() == [str(n) for n in range(1, 100001)]
        assert (target / "attempt.txt").read_text() == "1\n"
        w.nothing_left()


def _says_final(bucket: Any, key: str) -> bool:
    found = list(bucket.objects.filter(Prefix=key))
    return bool(found) and json.loads(found[0].get()["Body"].read())["final"]
