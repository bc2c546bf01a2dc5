"""job.yaml: what is wrong is named with its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.cli import amounts, jobfile
from provisioner.cli.failures import CliError


def line_of(folder: Path, text: str) -> str:
    path = folder / "job.yaml"
    path.write_text(text)
    with pytest.raises(CliError) as caught:
        jobfile.spec(jobfile.read(path))
    assert caught.value.code == 2
    return caught.value.line.replace(str(folder), "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run: true\noutputs: [a\n", "/job.yaml:3: malformed YAML"),
        ("run: x\ntimeuot: 3\n", "/job.yaml:2: unknown key 'timeuot'"),
        ("run: x\nresources: {gpu: H1000}\n", "/job.yaml:2: unknown GPU 'H1000'; did you mean H100?"),
        ("run: x\nresources: {gup: T4}\n", "/job.yaml:2: unknown resource 'gup'"),
        ("run: x\ntimeout: soon\n", "/job.yaml:2: timeout: 'soon' is not a duration"),
        ("run: x\noutputs: [../secret]\n", "/job.yaml:2: output '../secret' is outside the workspace"),
        ("run: x\noutputs: [/etc/passwd]\n", "/job.yaml:2: output '/etc/passwd' is outside the workspace"),
        ("run: x\ncheckpoint: /tmp\n", "/job.yaml:2: checkpoint '/tmp' is outside the workspace"),
        ("run: x\nretries: many\n", "/job.yaml:2: retries: 'many' is not a number"),
        ("run: x\nretries: true\n", "/job.yaml:2: retries: True is not a number"),
        ("run: x\nretries: -1\n", "/job.yaml:2: retries: -1 is not a number"),
        ("run: x\ntty: 'no'\n", "/job.yaml:2: tty: 'no' is neither true nor false"),
        ("run: {a: b}\n", "/job.yaml:1: run: {'a': 'b'} is not a command"),
        ("run: x\nname: [a]\n", "/job.yaml:2: name must be text"),
        ("run: x\nsecrets: HF_TOKEN\n", "/job.yaml:2: secrets must be a list"),
        ("run: x\noutputs: [1]\n", "/job.yaml:2: outputs: 1 is not a name"),
        ("run: x\nenv:\n  A: 1\n  B: [2]\n", "/job.yaml:4: env: B must be one value"),
        ("run: x\nresources:\n  cpus: 2\n  memory: much\n", "/job.yaml:4: memory: 'much' is not a number"),
        ("run: x\nresources:\n  max_price: 1:30\n", "/job.yaml:3: max_price: '1:30' is not a number"),
        ("run: x\nresources:\n  max_price: nan\n", "/job.yaml:3: max_price: 'nan' is not a number"),
        ("run: x\nresources:\n  cpus: -2\n", "/job.yaml:3: cpus: -2 is not a number"),
        ("run: x\nresources:\n  market: sport\n", "/job.yaml:3: unknown market 'sport'"),
        ("run: x\nresources:\n  gpu: [T4]\n", "/job.yaml:3: gpu must be one value"),
        ("run: x\nname: a\nname: b\n", "/job.yaml:3: 'name' is given twice; first on line 2"),
        ("run: ' '\n", "/job.yaml:1: there is nothing to run"),
        ("", "/job.yaml:1: expected keys and values"),
        ("- a\n- b\n", "/job.yaml:1: expected keys and values"),
        ("setup: x\n", "there is nothing to run"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    assert line_of(tmp_path, text).startswith(said)


def test_values_of_the_environment_are_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("run: x\nenv: {A: yes, B: 010, C: 1e3, D: 1.20, E: 'q', F: , G: 2026-11-21}\n")
    made = jobfile.spec(jobfile.read(path))["env"]
    assert made == {"A": "yes", "B": "010", "C": "1e3", "D": "1.20", "E": "q", "F": "", "G": "2026-11-21"}


def test_a_file_that_is_not_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"run: \xff\xfe")
    with pytest.raises(CliError, match="not text in UTF-8"):
        jobfile.read(tmp_path / "job.yaml")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("1.5", 1.5), ("250ms", 0.25), ("5m", 300.0), ("1h30m", 5400.0), ("2d", 172800.0)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert amounts.duration(text, "timeout") == seconds


@pytest.mark.parametrize("text", ["", "-5", "5x", "m", "1h30", "inf", "nan", "5 5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(CliError, match="is not a duration"):
        amounts.duration(text, "timeout")


def test_the_example_of_the_product_page_is_read(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        """
name: train-resnet
resources: {gpu: "A10G:1", market: spot-first, max_price: 1.20, disk: 200}
inputs: [{from: "s3://team-data/cifar", to: data/}]
setup: pip install -r requirements.txt
run: python train.py --epochs 20
env: {WANDB_MODE: offline}
secrets: [HF_TOKEN]
outputs: [metrics.json, plots/**, model.safetensors]
checkpoint: {path: ckpt/, every: 5m}
retries: 3
timeout: 8h
"""
    )
    spec = jobfile.spec(jobfile.read(path))
    assert spec["need"] == {
        "gpu": {"count": 1, "name": "A10G", "min_memory_gb": None, "min_compute": None},
        "disk_gib": 200.0,
        "market": "spot-first",
        "max_price": "1.2",
    }
    assert (spec["timeout_s"], spec["retries"]) == (28800.0, 3)
    assert spec["checkpoint"] == {"path": "ckpt", "every_s": 300.0}
