"""Settings come from one file and a documented list of variables; whatever is wrong is named with its place."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.policy import Policy
from provisioner.settings import ENVIRONMENT, load, secret_key
from tests.unit.cli.step import GITHUB, GITLAB


def test_an_empty_home_has_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, {}).make_policy() == Policy()


def test_the_forges_own_variables_change_nothing(tmp_path: Path) -> None:
    """And none of them is one of ours."""
    assert load(tmp_path, GITHUB | GITLAB) == load(tmp_path, {})
    assert not ENVIRONMENT.keys() & (GITHUB.keys() | GITLAB.keys())


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("objects_url: s3://file\nmax_usd_per_hour: 2.5\n")
    settings = load(tmp_path, {"RUNNER_OBJECTS_URL": "s3://environment"})
    assert (settings.objects_url, settings.max_usd_per_hour) == ("s3://environment", Decimal("2.5"))


def test_malformed_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("max_instances: 3\nlocal: [\n")
    with pytest.raises(InvalidRequest, match=r"settings\.yaml:3: not YAML"):
        load(tmp_path, {})


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("max_instnces: 3\n")
    with pytest.raises(InvalidRequest, match="max_instnces"):
        load(tmp_path, {})


def test_an_unknown_policy_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("policy: {silense_s: 3}\n")
    with pytest.raises(InvalidRequest, match="silense_s"):
        load(tmp_path, {}).make_policy()


def test_the_scale_multiplies_durations_only(tmp_path: Path) -> None:
    policy = load(tmp_path, {"RUNNER_POLICY_SCALE": "0.05"}).make_policy()
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
        load(tmp_path, {})
    (tmp_path / "settings.yaml").write_text(
        "aws: {hard_limit: true, hard_limit_role: 'arn:aws:iam::123456789012:role/limit'}\n"
    )
    assert load(tmp_path, {}).aws.hard_limit
