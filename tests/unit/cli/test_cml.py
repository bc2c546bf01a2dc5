"""CML's command in our words: its defaults, its flags one by one, and what is refused with what to write instead."""

from __future__ import annotations

import pytest

from provisioner.cli.commands.cml import COMMANDS, FLAGS, translated
from provisioner.cli.failures import CliError
from tests.fakes.api_server import FakeApi

from .terminal import Terminal

LOCAL = ["--labels", "cml,self-hosted,linux,x64", "--idle-timeout", "5m", "--jobs", "many", "--provider", "local"]
AWS = [
    *("--labels", "cml,self-hosted,linux,x64", "--idle-timeout", "5m", "--jobs", "many", "--provider", "aws"),
    *("--region", "us-west-1", "--instance-type", "m5.2xlarge", "--disk", "35", "--on-demand"),
]
# Every flag that cml.dev's reference and launch.js have, hidden ones and aliases too.
_CLOUD = (
    "region type gpu hdd-size spot spot-price permission-set metadata startup-script ssh-private aws-security-group"
)
_CLOUD += " aws-subnet aws-subnet-id kubernetes-node-selector image"
THEIRS = [
    *("labels", "idle-timeout", "name", "no-retry", "single", "reuse", "reuse-idle", "docker-volumes", "cloud"),
    *(f"cloud-{name}" for name in _CLOUD.split()),
    *(
        "workdir",
        "path",
        "tpi-version",
        "cml-version",
        "tf-resource",
        "destroy-delay",
        "gcp-access-token",
        "runner-path",
    ),
    *("repo", "driver", "token", "driver-token", "log"),
]


def test_every_flag_of_theirs_is_in_the_table() -> None:
    assert [flag.name.removeprefix("--") for flag in FLAGS] == THEIRS


def test_their_defaults_are_theirs() -> None:
    assert translated({}) == LOCAL
    assert translated({"cloud": "aws"}) == AWS


@pytest.mark.parametrize(
    ("given", "has"),
    [
        ({"labels": "a,b"}, "--labels a,b,self-hosted,linux,x64"),
        ({"idle_timeout": "90"}, "--idle-timeout 90s"),
        ({"idle_timeout": "1h"}, "--idle-timeout 1h"),
        ({"idle_timeout": "30 minutes"}, "--idle-timeout 30m"),
        ({"single": "yes"}, "--jobs one"),
        ({"name": "mine"}, "--name mine"),
        ({"cloud": "aws", "cloud_gpu": "t4"}, "--instance-type g4dn.xlarge"),
        ({"cloud": "aws", "cloud_gpu": "tesla"}, "--gpu V100"),
        ({"cloud": "aws", "cloud_type": "l", "cloud_gpu": "v100"}, "--instance-type p3.8xlarge"),
        ({"cloud": "aws", "cloud_type": "xl", "cloud_gpu": "nogpu"}, "--instance-type m5.16xlarge"),
        ({"cloud": "aws", "cloud_type": "g5.xlarge"}, "--instance-type g5.xlarge --disk 35"),
        ({"cloud": "aws", "cloud_type": "m5.large", "cloud_gpu": "a100"}, "--instance-type m5.large --gpu A100"),
        ({"cloud": "aws", "cloud_region": "eu-north"}, "--region eu-north-1"),
        ({"cloud": "aws", "cloud_region": "ap-south-1"}, "--region ap-south-1"),
        ({"cloud": "aws", "cloud_spot": "yes"}, "--spot"),
        ({"cloud": "aws", "cloud_spot_price": "0.5"}, "--max-price 0.5"),
        ({"cloud": "aws", "cloud_hdd_size": "100"}, "--disk 100"),
        ({"cloud": "aws", "cloud_image": "ami-1"}, "--image ami-1"),
        ({"repo": "https://github.com/a/b", "driver": "github"}, "--repo https://github.com/a/b --forge github"),
    ],
)
def test_a_flag_in_our_words(given: dict[str, str], has: str) -> None:
    assert f" {has} " in f" {' '.join(translated(given))} "


@pytest.mark.parametrize("given", [{"log": "debug"}, {"cloud_spot_price": "-1"}])
def test_what_needs_nothing_changes_nothing(given: dict[str, str]) -> None:
    assert translated(given) == LOCAL


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"idle_timeout": "never"}, "--idle-timeout never: every machine has an end here; write a time"),
        ({"idle_timeout": "-1"}, "every machine has an end here"),
        ({"cloud": "azure"}, "--cloud azure: there is no such provider here"),
        (
            {"cloud": "aws", "cloud_region": "us-east-1a"},
            "is a zone; write --region us-east-1; zones are tried in turn",
        ),
        ({"cloud": "aws", "cloud_gpu": "a100"}, "is no machine; write --gpu A100, and no type"),
        ({"cloud": "aws", "cloud_gpu": "k80"}, "K80s are past their support: write --gpu T4"),
        ({"driver": "bitbucket"}, "it is no forge here; gitea, github and gitlab are"),
        ({"token": "ghp_x"}, "--token is not taken here; use RUNNER_FORGE_TOKEN"),
        ({"reuse": "yes"}, "--reuse is not taken here; a step that is tried again finds its runners"),
        ({"cloud_startup_script": "eA=="}, "use aws.startup (settings of the controller"),
        ({"cloud_ssh_private": "k"}, "use runner ssh"),
        ({"docker_volumes": "/a:/b"}, "jobs run on the machine itself"),
        ({"no_retry": "yes"}, "use policy.reruns_most (0 in the controller's settings: no job is run again"),
        ({"path": "/srv"}, "--path is not taken here; as `--workdir`"),
        ({"gcp_access_token": "t"}, "there is no Google Cloud here"),
        ({"runner_path": "/opt"}, "the forge's program is fetched"),
    ],
)
def test_what_means_something_else_is_refused_with_what_to_write(given: dict[str, str], said: str) -> None:
    with pytest.raises(CliError) as caught:
        translated(given)
    assert said in caught.value.line
    assert "ghp_x" not in caught.value.line


def test_a_workflow_as_it_was_written_launches(terminal: Terminal, api: FakeApi) -> None:
    terminal.extra |= {
        "REPO_TOKEN": "ghp_of-the-repository",
        "CML_RUNNER_LABELS": "gpu",
        "CML_REPO": "https://github.com/a/b",
    }
    done = terminal.run("cml", "runner", "launch", "--single", "--idle-timeout=10min")
    assert done.returncode == 0, done.stderr
    (spec,) = [body["spec"] for body in api.sent("POST", "/jobs") if "spec" in body]
    assert spec["runner"]["labels"][1:] == ["gpu", "self-hosted", "linux", "x64"]
    assert (spec["runner"]["jobs"], spec["runner"]["idle_s"], spec["runner"]["url"]) == (
        "one",
        600.0,
        "https://github.com/a/b",
    )
    assert api.sent("PUT", "/forges/github")[0]["token"] == "ghp_of-the-repository"
    assert done.stderr.splitlines()[0].startswith(
        "runner: the same as: runner launch --labels gpu,self-hosted,linux,x64"
    )


def test_their_other_commands_say_what_they_are_here(terminal: Terminal) -> None:
    done = terminal.run("cml", "comment", "create", "--watch", "report.md")
    said = "runner: cml comment is not taken here; it is runner comment create and runner comment update\n"
    assert (done.returncode, done.stderr) == (2, said)
    assert set(COMMANDS) == {"comment", "asset", "check", "pr", "workflow", "repo", "tensorboard"}
