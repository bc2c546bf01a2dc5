"""Whole jobs whose inputs, checkpoints and results are in S3: moto's server in `test`, Ceph's gateway in `system`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from tests.fakes import s3
from tests.system.world import World, world

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


@pytest.fixture(params=["moto", pytest.param("ceph", marks=[pytest.mark.system, pytest.mark.timeout(240)])])
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
