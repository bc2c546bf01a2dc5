"""User-data is what cloud-init takes, by its own schema: that of the one installed, or of the one .ci/test unpacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.bootstrap.userdata import user_data

UNPACKED = Path(__file__).resolve().parents[3] / ".cache/cloud-init/usr/lib/python3/dist-packages"
_MAIN = "import sys; from cloudinit.cmd.main import main; sys.exit(main(['cloud-init', *sys.argv[1:]]))"


def cloud_init(*words: str) -> subprocess.CompletedProcess[str]:
    """Skips where there is none, or where it does not start under this Python."""
    if found := shutil.which("cloud-init"):
        return _run([found, *words])
    if not UNPACKED.exists():
        pytest.skip("no cloud-init here: `bash .ci/test` unpacks one where there is apt-get")
    program = [sys.executable, "-B", "-c", _MAIN]
    if (begun := _run([*program, "--version"])).returncode:
        pytest.skip(f"the unpacked cloud-init does not start: {begun.stderr.splitlines()[-1:]}")
    return _run([*program, *words])


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(UNPACKED)}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)


def checked(folder: Path, text: str) -> tuple[int, str]:
    (folder / "user-data").write_text(text)
    done = cloud_init("schema", "--config-file", str(folder / "user-data"))
    return done.returncode, done.stdout + done.stderr


def test_cloud_init_finds_it_valid(tmp_path: Path) -> None:
    text = user_data(
        name="runner-i-1",
        config='{"urls": ["https://c:1"], "ca_pem": ""}',
        agent_urls=["https://c:1/agent.pyz"],
        agent_sha256="0" * 64,
        ca_pem="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        startup="#!/bin/sh\necho 'it''s \"here\"'\n",
    )
    code, said = checked(tmp_path, text)
    assert (code, "Valid cloud-config" in said) == (0, True), said


def test_what_it_cannot_take_it_says_so_of(tmp_path: Path) -> None:
    """So that being found valid means something."""
    code, said = checked(tmp_path, "#cloud-config\nbootcmd: 5\n")
    assert (code, "bootcmd: 5 is not of type 'array'" in said) == (1, True), said
