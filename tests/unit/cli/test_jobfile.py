"""job.yaml: what is wrong is named with its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.cli import jobfile
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
        ("- a\n- b\n", "/job.yaml:1: expected keys and values"),
        ("setup: x\n", "there is nothing to run"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    assert line_of(tmp_path, text).startswith(said)


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
