"""What hooks say is heard as it was said; what a job writes in their stead can do no harm."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from agent import wire
from agent.hooks import COMPLETED, STARTED, Heard, events_in, folder_of, write
from agent.programs import filled, program_of, words

from .forge import program

VARIABLES = {
    "repository": ["GITHUB_REPOSITORY", "CI_PROJECT_PATH"],
    "run": ["GITHUB_RUN_ID", "CI_PIPELINE_ID"],
    "job": ["GITHUB_JOB"],
    "actor": ["GITHUB_ACTOR"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "it's a job.hooks"
    write(str(path), {}, VARIABLES)
    return path


def run(script: Path, **env: str) -> int:
    """As GitHub's runner does."""
    return subprocess.run(["bash", "-e", str(script)], env={"PATH": os.defpath, **env}, check=False).returncode


def said(folder: Path, text: str) -> None:
    with open(events_in(str(folder)), "a") as file:
        file.write(text)


def test_a_job_from_its_beginning_to_its_end(folder: Path) -> None:
    heard = Heard(str(folder))
    assert (heard.look(), heard.busy) == (False, False)
    run(folder / STARTED, GITHUB_REPOSITORY="acme/vision", GITHUB_RUN_ID="7", GITHUB_JOB="train", GITHUB_ACTOR="ann")
    assert (heard.look(), heard.busy, heard.jobs) == (True, True, 1)
    assert heard.job == {"repository": "acme/vision", "run": "7", "job": "train", "actor": "ann"}
    run(folder / COMPLETED)
    assert (heard.look(), heard.busy, heard.jobs) == (True, False, 1)
    run(folder / STARTED, CI_PROJECT_PATH="group/sub/project", CI_PIPELINE_ID="9")
    assert (heard.look(), heard.busy, heard.jobs) == (True, True, 2)
    assert heard.job == {"repository": "group/sub/project", "run": "9"}


def test_a_hook_never_fails_a_job(folder: Path) -> None:
    os.unlink(events_in(str(folder)))
    os.mkdir(events_in(str(folder)))
    assert run(folder / STARTED) == 0


def test_gitlabs_shell_finds_the_script_wherever_it_is(tmp_path: Path) -> None:
    workspace = str(tmp_path / "it's a job")
    about = ("gitlab", "runner-i1", "", "https://gitlab.com", [], "gitlab-runner", "", "", "")
    order = wire.RunnerOrder(*about, program=program("gitlab"))
    made = program_of(order)
    write(folder_of(workspace), {}, made.variables)
    argv = filled(made.argv, words(order, order.name, workspace))
    script = argv[argv.index("--pre-build-script") + 1]
    heard = Heard(folder_of(workspace))
    subprocess.run(["bash", "-e", "-c", script], env={"PATH": os.defpath, "CI_JOB_NAME": "train"}, check=True)
    assert (heard.look(), heard.job) == (True, {"job": "train"})


def test_the_same_beginning_said_twice_is_one_job(folder: Path) -> None:
    heard = Heard(str(folder))
    said(folder, "started\tjob=train\nstarted\tjob=train\ncompleted\ncompleted\n")
    assert (heard.look(), heard.busy, heard.jobs) == (True, False, 1)


def test_half_a_line_is_waited_for(folder: Path) -> None:
    heard = Heard(str(folder))
    said(folder, "started\tjob=tr")
    assert not heard.look()
    said(folder, "ain\n")
    heard.look()
    assert heard.job == {"job": "train"}


def test_only_known_words_of_a_few_characters_are_taken(folder: Path) -> None:
    heard = Heard(str(folder))
    said(folder, f"started\tjob={'x' * 5000}\x1b[2J\tidle_s=0\trun=\x00\x1b7\nrm -rf\n\n\t=\n")
    heard.look()
    assert heard.job == {"job": "x" * 200, "run": "7"}


def test_no_more_than_a_little_is_read_however_much_is_written(folder: Path) -> None:
    heard = Heard(str(folder))
    said(folder, "y" * 2**20)
    for _ in range(16):
        heard.look()
    said(folder, "\nstarted\tjob=late\n")
    assert (heard.look(), heard.jobs) == (False, 0)


def test_a_file_that_was_put_in_its_place_is_not_read(folder: Path, tmp_path: Path) -> None:
    heard = Heard(str(folder))
    (tmp_path / "secret").write_text("started\tjob=of-root\n")
    os.unlink(events_in(str(folder)))
    os.symlink(tmp_path / "secret", events_in(str(folder)))
    assert (heard.look(), heard.job) == (False, {})
    with pytest.raises(OSError, match="symbolic links"):
        Heard(str(folder))


def test_scripts_can_be_read_and_run_but_not_written(folder: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {STARTED: 0o555, COMPLETED: 0o555, "events": 0o600}
