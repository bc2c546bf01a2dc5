"""The agent's one file: the same bytes every time, and runnable by an isolated Python."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.util import cache_from_source
from pathlib import Path

from provisioner.bootstrap.bundle import agent_bundle, pack


def _package(folder: Path) -> Path:
    package = folder / "agent"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "late.py").write_text("WORD = 'here'\n")
    (package / "__main__.py").write_text("from . import late\n\n\ndef main():\n    print(late.WORD)\n    return 7\n")
    return package


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = _package(tmp_path / "a"), _package(tmp_path / "b")
    for file in second.iterdir():
        os.utime(file, (1, 1))
        file.chmod(0o600)
    assert pack(first) == pack(second)


def test_other_sources_give_other_bytes(tmp_path: Path) -> None:
    package = _package(tmp_path)
    before = pack(package)
    (package / "late.py").write_text("WORD = 'there'\n")
    assert pack(package) != before


def test_broken_byte_code_and_other_files_stay_out(tmp_path: Path) -> None:
    package = _package(tmp_path)
    before = pack(package)
    (package / "__pycache__").mkdir(exist_ok=True)
    Path(cache_from_source(str(package / "late.py"))).write_bytes(b"x")
    (package / "ruff.toml").write_text("")
    assert pack(package) == before


def test_its_byte_code_is_what_runs_here_and_its_source_elsewhere(tmp_path: Path) -> None:
    whole = tmp_path / "agent.pyz"
    whole.write_bytes(pack(_package(tmp_path / "src")))
    for changed, said in (("late.py", "here"), ("late.pyc", "there")):
        file = tmp_path / f"{changed}.pyz"
        with zipfile.ZipFile(whole) as old, zipfile.ZipFile(file, "w") as new:
            for name in old.namelist():
                data = old.read(name)
                if name == f"agent/{changed}":  # another source than the byte code's, or another Python's byte code
                    data = b"WORD = 'there'\n" if changed == "late.py" else b"\0\0\0\0" + data[4:]
                if changed == "late.pyc" and name == "agent/late.py":
                    data = b"WORD = 'there'\n"
                new.writestr(name, data)
        done = subprocess.run([sys.executable, "-I", str(file)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (7, f"{said}\n"), done.stderr


def test_an_isolated_python_runs_it_past_a_folder_called_agent(tmp_path: Path) -> None:
    file = tmp_path / "agent.pyz"
    file.write_bytes(pack(_package(tmp_path / "src")))
    decoy = tmp_path / "checkout/agent"
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").write_text("raise SystemExit('the wrong agent')\n")
    done = subprocess.run(
        [sys.executable, "-I", str(file)], cwd=decoy.parent, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (7, "here\n"), done.stderr


def test_it_is_made_once_and_named_after_what_it_is_made_of(tmp_path: Path) -> None:
    path = agent_bundle(tmp_path)
    made_at = path.stat().st_mtime_ns
    assert agent_bundle(tmp_path) == path
    assert path.stat().st_mtime_ns == made_at
    assert path.name == "agent.pyz"
    assert [entry.name for entry in path.parent.iterdir()] == ["agent.pyz"]
