"""Settings come from one file and a documented list of variables; whatever is wrong is named with its place."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.kinds import Kinds
from provisioner.domain.policy import Policy
from provisioner.settings import ENVIRONMENT, load, secret_key
from tests.unit.cli.step import GITHUB, GITLAB


def test_an_empty_home_has_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, {}, Kinds()).make_policy() == Policy()


def test_the_forges_own_variables_change_nothing(tmp_path: Path) -> None:
    """And none of them is one of ours."""
    assert load(tmp_path, GITHUB | GITLAB, Kinds()) == load(tmp_path, {}, Kinds())
    assert not ENVIRONMENT.keys() & (GITHUB.keys() | GITLAB.keys())


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("objects_url: s3://file\nmax_usd_per_hour: 2.5\n")
    settings = load(tmp_path, {"RUNNER_OBJECTS_URL": "s3://environment"}, Kinds())
    assert (settings.objects_url, settings.max_usd_per_hour) == ("s3://environment", Decimal("2.5"))


def test_malformed_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("max_instances: 3\nlocal: [\n")
    with pytest.raises(InvalidRequest, match=r"settings\.yaml:3: not YAML"):
        load(tmp_path, {}, Kinds())


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("max_instnces: 3\n")
    with pytest.raises(InvalidRequest, match="max_instnces"):
        load(tmp_path, {}, Kinds())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_usd_per_hour: 1:30", "max_usd_per_hour: Input should be a valid decimal"),
        ("max_usd_per_hour: 1e999", "max_usd_per_hour: Input should be less than or equal to 1000000"),
        ("max_usd_per_hour: .nan", "max_usd_per_hour: Input should be a finite number"),
        ("max_usd_per_hour: .inf", "max_usd_per_hour: Input should be a finite number"),
        ("local: {usd_per_hour: 1e999}", "local.usd_per_hour: Input should be less"),
        (f"max_instances: {10**30}", "max_instances: Input should be less"),
        ("max_instances: 1" + "0" * 5000, "not YAML: a number is too long"),
        ("max_instances: 2\nlocal: {}\nmax_instances: 5", ":3: 'max_instances' is there twice"),
        ("local: {usd_per_hour: 1, usd_per_hour: 2}", ":1: 'usd_per_hour' is there twice"),
        ("retention: {logs_days: 1.0e+300}", "retention.logs_days: Input should be less than or equal to 3650"),
        ("public_url: https://runner.example:99999", "public_url: the port is a number from 1 to 65535"),
        ("policy_scale: .nan", "policy_scale: Input should be less than or equal to 100"),
        ("policy: {poll_every_s: -5}", "settings: policy.poll_every_s: -5 is not above zero"),
        ("policy: {silence_s: 0}", "settings: policy.silence_s: 0 is not above zero"),
        ("policy: {silence_s: .nan}", "settings: policy.silence_s: nan is not above zero"),
        ("policy: {boot_timeout_s: .inf}", "policy.boot_timeout_s: inf s is over the longest duration, 10 years"),
        ("policy: {collect_share: 1.5}", "settings: policy.collect_share: 1.5 is more than all of it, 1"),
    ],
)
def test_what_means_something_else_or_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(InvalidRequest) as caught:
        load(tmp_path, {}, Kinds()).make_policy()
    assert said in caught.value.message
    assert "\n" not in caught.value.line


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_bytes(b"\xff\xfe\0")
    with pytest.raises(InvalidRequest, match=r"settings\.yaml: not text in UTF-8"):
        load(tmp_path, {}, Kinds())


def test_nothing_may_be_nothing_where_it_usually_is(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("policy: {idle_default_s: 0}\npublic_url: http://127.0.0.1:8080")
    assert load(tmp_path, {}, Kinds()).make_policy() == Policy()


def test_an_unknown_policy_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("policy: {silense_s: 3}\n")
    with pytest.raises(InvalidRequest, match="silense_s"):
        load(tmp_path, {}, Kinds()).make_policy()


def test_the_scale_multiplies_durations_only(tmp_path: Path) -> None:
    policy = load(tmp_path, {"RUNNER_POLICY_SCALE": "0.05"}, Kinds()).make_policy()
    assert (policy.silence_s, policy.collect_share, policy.max_instances) == (9.0, 0.2, 8)
    assert policy.logs_keep_s == Policy().logs_keep_s


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    first = secret_key(tmp_path, {})
    assert secret_key(tmp_path, {}) == first
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="16"):
        secret_key(tmp_path, {"RUNNER_SECRET_KEY": "short"})


@pytest.mark.parametrize(
    ("aws", "said"),
    [
        ("hard_limit: true", "hard_limit needs hard_limit_role, the role under which EventBridge"),
        ("hard_limit_role: limiter", "write the ARN of a role, arn:aws:iam::ACCOUNT:role/NAME"),
    ],
)
def test_a_hard_limit_needs_a_role(tmp_path: Path, aws: str, said: str) -> None:
    (tmp_path / "settings.yaml").write_text(f"aws:\n  {aws}\n")
    with pytest.raises(InvalidRequest, match=said):
        load(tmp_path, {}, Kinds())
    (tmp_path / "settings.yaml").write_text(
        "aws: {hard_limit: true, hard_limit_role: 'arn:aws:iam::123456789012:role/limit'}\n"
    )
    assert load(tmp_path, {}, Kinds()).aws.hard_limit
