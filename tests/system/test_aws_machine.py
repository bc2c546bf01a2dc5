"""What happens on a rented machine itself, on a cloud whose machines boot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.fakes import booting
from tests.fakes.booting import BootingCloud

from .test_aws import ON_AWS, cloud, controlled, instances

__all__ = ["cloud"]
JOB = """
setup: echo made by setup > "$(python3 -c 'import sys; print(sys.prefix)')/made.txt"
run: |
  id -un; cat lib/data.txt; echo changed > lib/data.txt; cp lib/data.txt out.txt
  cat "$(python3 -c 'import sys; print(sys.prefix)')/made.txt"
  cat ckpt/saved 2>/dev/null && exit 0
  mkdir -p ckpt; echo saved by $(id -un) > ckpt/saved; exit 1
outputs: [out.txt]
checkpoint: {path: ckpt/, every: 1h}
retries: 1
"""
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
        job = w.submit(*words, "--", "sh", "-c", "echo begun; while ! test -e /var/tmp/go; do sleep 0.1; done")
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


def test_a_job_runs_as_a_user_who_is_root_by_sudo_only(cloud: BootingCloud, tmp_path: Path) -> None:
    """Its working directory, what its setup installs, its outputs and its checkpoints are that user's."""
    with controlled(cloud, tmp_path) as w:
        work = tmp_path / "work"
        work.mkdir()
        (work / "job.yaml").write_text(JOB)
        (work / "lib").mkdir()
        (work / "lib/data.txt").write_text("sent along\n")
        words = ("--provider", "aws", "--gpu", "T4", "-f", str(work / "job.yaml"), "--workdir", str(work))
        job = w.submit(*words)
        done = w.wait_done(job)
        log = w.run("logs", job).stdout.decode()
        assert (done["outcome"], done["attempts"]) == ("succeeded", 2), (done, log, w.log())
        first, second = (w.run("logs", job, "--attempt", str(n)).stdout.decode().splitlines() for n in (1, 2))
        assert first[-3:] == ["runner", "sent along", "made by setup"]
        assert second[-4:] == ["runner", "sent along", "made by setup", "saved by runner"]
        w.run("pull", job, str(tmp_path / "pulled"))
        assert (tmp_path / "pulled/out.txt").read_text() == "changed\n"
        assert done["attempts_list"][0]["facts"]["machine"]["user"] == "runner"


def test_a_job_without_sudo_runs_apart_or_not_at_all(cloud: BootingCloud, tmp_path: Path) -> None:
    """Where the machine has a packet filter it cannot ask the metadata service; where it has none it is refused."""
    with controlled(cloud, tmp_path) as w:
        work = tmp_path / "work"
        work.mkdir()
        ask = "import socket; socket.create_connection(('169.254.169.254', 80), 2); print('reached it')"
        lines = ["sudo: false", "run:", "  - /usr/bin/python3", "  - -c", f'  - "{ask}"']
        (work / "job.yaml").write_text("\n".join(lines))
        job = w.submit(*ON_AWS, "-f", str(work / "job.yaml"))
        done, log = w.wait_done(job), w.run("logs", job).stdout.decode() + w.run("logs", job).stderr.decode()
        assert done["outcome"] == "failed", done
        if shutil.which("nft", path=booting.PATH) or shutil.which("iptables", path=booting.PATH):
            assert "ConnectionRefusedError" in log or "Network is unreachable" in log
        else:
            assert "this machine has neither nft nor iptables" in w.run("why", job).stdout.decode()
        with_sudo = w.submit(*ON_AWS, "--", "/usr/bin/python3", "-c", ask)
        assert w.wait_done(with_sudo)["outcome"] == "succeeded", w.log()
