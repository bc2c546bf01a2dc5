"""What happens on a rented machine itself, on a cloud whose machines boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import booting
from tests.fakes.booting import BootingCloud

from .test_aws import ON_AWS, cloud, controlled, instances

__all__ = ["cloud"]
pytestmark = [
    pytest.mark.skipif(bool(booting.missing()), reason=booting.missing() or "it can"),
    pytest.mark.system,
]


def test_a_startup_script_that_fails_fails_the_job_and_ends_the_machine(cloud: BootingCloud, tmp_path: Path) -> None:
    """Once: it would fail on any other machine, for money."""
    with controlled(cloud, tmp_path, aws=", startup: 'echo no such mirror; exit 3'") as w:
        job = w.submit(*ON_AWS, "--", "echo", "never")
        done = w.wait_done(job)
        assert done["outcome"] == "failed", done
        assert "script-failed: the startup script exited 3: no such mirror" in w.run("why", job).stdout.decode()
        w.until(lambda: not w.json("machines"), 60, "the machine to be gone")
        assert instances(cloud) == ["terminated"]


def test_an_error_of_the_gpu_is_told_with_the_job_and_its_machine_not_used_again(
    cloud: BootingCloud, tmp_path: Path
) -> None:
    with controlled(cloud, tmp_path) as w:
        words = (*ON_AWS, "--idle-timeout", "10m")
        job = w.submit(
            *words, "--", "sh", "-c", "echo begun; while ! test -e /var/tmp/go; do sleep 0.1; done; rm /var/tmp/go"
        )
        w.until(lambda: w.run("logs", job).stdout == b"begun\n", 60, "it to begin")
        (host,) = cloud.hosts.values()
        host.kernel_says("NVRM: Xid (PCI:0000:00:1e): 79, pid=1, GPU has fallen off the bus.")
        told = (
            "the driver reported Xid 79 (PCI:0000:00:1e): GPU has fallen off the bus.; this machine gets no other job"
        )
        w.until(lambda: told in w.run("why", job).stdout.decode(), 60, "it to be told")
        host.run("touch", "/var/tmp/go")
        assert w.wait_done(job)["outcome"] == "succeeded"
        assert f"gpu     {told}" in w.run("show", job).stdout.decode()
        assert [one["what"] for one in w.json("events", "--job", job)].count("gpu.xid") == 1
        assert w.wait_done(w.submit(*words, "--", "true"))["outcome"] == "succeeded"
        assert len(instances(cloud)) == 2
