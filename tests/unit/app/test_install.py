"""The unit that `serve --install` writes."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.app.install import ENVIRONMENT, NAME, install, unit
from provisioner.domain.errors import InvalidRequest

WORDS = ["--host", "127.0.0.1", "--port", "8765"]


def read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return parser


def test_it_serves_from_this_home_and_leaves_jobs_alone(tmp_path: Path) -> None:
    said = install(tmp_path / "home", WORDS, folder=tmp_path / "units")
    service = read(tmp_path / "units" / NAME)["Service"]
    assert service["ExecStart"].startswith(f'"{sys.executable}" "-m" "provisioner" "serve" "--host"')
    assert service["ExecStart"].endswith(f'"--home" "{tmp_path / "home"}"')
    assert service["EnvironmentFile"] == f"-{tmp_path / 'home' / ENVIRONMENT}"
    assert service["KillMode"] == "process"
    assert str(tmp_path / "units" / NAME) in said[0]
    if not Path("/run/systemd/system").exists():
        assert any("to do" in line and "enable --now gpu-runner.service" in line for line in said)


def test_odd_names_are_quoted_for_systemd() -> None:
    text = unit(Path('/srv/a b/100%"x'), ["--tls", "$cert,key"], target="default.target")
    assert '"--home" "/srv/a b/100%%\\"x"' in text
    assert '"--tls" "$$cert,key"' in text


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match="cannot write"):
        install(tmp_path, WORDS, folder=tmp_path / "file" / "units")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_it(tmp_path: Path) -> None:
    install(tmp_path / "a home", WORDS, folder=tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / NAME)], capture_output=True, text=True, check=False
    )
    assert NAME not in done.stderr, done.stderr
