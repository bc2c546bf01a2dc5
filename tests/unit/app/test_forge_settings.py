"""Whatever is wrong under `forges:` and `ci:` is one line with its place."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.app.ci import policy_of
from provisioner.domain.budget import Budget, Period
from provisioner.domain.errors import InvalidRequest
from provisioner.forges.registry import known
from provisioner.settings import Settings, load

CI = {"forge": "https://github.com", "repositories": ["acme/*"], "max_usd_per_hour": 5, "max_instances": 4}


def loaded(folder: Path, settings: dict[str, Any]) -> Settings:
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    return load(folder, {}, known())


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        ({"kind": "bitbucket"}, "Input should be 'gitea', 'github' or 'gitlab'"),
        ({"kind": "gitea"}, "url is missing: write https://HOST"),
        ({"kind": "github", "url": "git.example"}, "write https://HOST"),
        ({"kind": "github", "url": "http://git.example"}, "https is needed beyond this computer"),
        ({"kind": "github", "url": "https://me:pw@git.example"}, "an address holds no name or password"),
        ({"kind": "github", "app_id": "1"}, "an App needs both app_id and private_key_file"),
        ({"kind": "gitlab", "app_id": "1", "private_key_file": "k"}, "only GitHub has Apps"),
        ({"kind": "github", "token_file": "a", "token_env": "B"}, "give one of: app_id with private_key_file"),
        ({"kind": "github", "token_env": "ghp_abcdef"}, "write the name of a variable, not the token"),
        ({"kind": "github", "token": "ghp_abcdef"}, "Extra inputs are not permitted"),
        ({"kind": "github", "runner_version": "latest"}, "'latest' is not a version such as 2.330.0"),
        ({"kind": "github", "runner_sha256": {"x86_64": "ab" * 32}}, "give runner_version, too"),
        ({"kind": "github", "runner_version": "2.1", "runner_sha256": {"arm": "ab" * 32}}, "'arm' is neither x86_64"),
        ({"kind": "github", "runner_version": "2.1", "runner_sha256": {"x86_64": "ab"}}, "is not a sha256"),
        ({"kind": "github", "preinstalled": ["runner"]}, "'runner' is not an absolute path on the machines"),
    ],
)
def test_a_wrong_forge(tmp_path: Path, forge: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        loaded(tmp_path, {"forges": [forge]})
    assert said in caught.value.message
    assert "settings.yaml: forges.0" in caught.value.message
    assert "ghp_abcdef" not in caught.value.line


def test_a_forge_that_is_there_twice(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"https://github\.com is there twice"):
        loaded(tmp_path, {"forges": [{"kind": "github"}, {"kind": "github", "url": "https://github.com/"}]})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"repositories": []}, "at least 1 item"),
        ({"pools": ["gpu"], "audience": "us"}, "ci grants the pool 'gpu', and `pools:` has none"),
        ({"repositories": ["*/*"]}, "the owner cannot be a pattern's beginning"),
        ({"repositories": ["vision"]}, "write OWNER/REPOSITORY"),
        ({"max_instances": 0}, "greater than or equal to 1"),
        ({"pull_requests": "all"}, "'refused', 'own' or 'forks'"),
        ({"forge": "https://git.example"}, "for GitHub Enterprise Server it is https://HOST/_services/token"),
        ({"owner": "a.b"}, "should match pattern"),
        ({"max_usd_per_hour": 0}, "greater than 0"),
        ({"budget": 50}, "write {usd: 50, per: day} or {usd: 50, per: month}"),
        ({"budget": {"usd": 50}}, "per: Field required"),
        ({"budget": {"usd": 50, "per": "week"}}, "per: Input should be 'day' or 'month'"),
        ({"budget": {"usd": 0, "per": "day"}}, "usd: Input should be greater than 0"),
    ],
)
def test_a_wrong_policy(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        loaded(tmp_path, {"public_url": "https://r.example", "ci": [{**CI, **changed}]})
    assert said in caught.value.message


def test_a_policy_needs_caps_and_somebody_that_tokens_are_made_out_to(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="max_usd_per_hour: Field required"):
        loaded(tmp_path, {"ci": [{"forge": "https://github.com", "repositories": ["acme/*"]}]})
    with pytest.raises(InvalidRequest, match="ci needs an audience, or public_url"):
        loaded(tmp_path, {"ci": [CI]})


def test_what_is_right_is_taken(tmp_path: Path) -> None:
    (one,) = loaded(tmp_path, {"public_url": "https://r.example", "ci": [CI]}).ci
    assert (one.issuer, one.pull_requests) == ("https://token.actions.githubusercontent.com", "refused")
    gitlab = {**CI, "forge": "https://gitlab.example/", "kind": "gitlab", "audience": "us"}
    (two,) = loaded(tmp_path, {"ci": [gitlab]}).ci
    assert (two.issuer, two.max_usd_per_hour, two.budget) == ("https://gitlab.example", Decimal(5), None)


def test_a_policy_may_have_a_budget(tmp_path: Path) -> None:
    given = {**CI, "budget": {"usd": "49.90", "per": "month"}}
    (one,) = loaded(tmp_path, {"public_url": "https://r.example", "ci": [given]}).ci
    assert policy_of(one, "https://r.example").budget == Budget(Decimal("49.90"), Period.MONTH)
