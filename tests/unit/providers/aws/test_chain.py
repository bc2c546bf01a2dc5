"""What the SDK's own chain finds where a command is typed, and how whoever is given it reaches the cloud."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from provisioner.domain.credentials import Credentials
from provisioner.domain.errors import Unauthorized
from provisioner.providers.aws import handed
from provisioner.providers.aws.chain import resolve

KEYS = {"access_key_id": "AKIAENV", "secret_access_key": "of-the-environment"}


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the SDK's files, and none of this machine's own set-up."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def given(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": KEYS["secret_access_key"]}.items():
        monkeypatch.setenv(name, value)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_variables(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, AWS_REGION="eu-west-1")
    assert resolve() == Credentials(KEYS, {"region": "eu-west-1"})


def test_a_session_that_says_until_when(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, AWS_SESSION_TOKEN="token", AWS_CREDENTIAL_EXPIRATION="2999-01-01T00:00:00Z")
    found = resolve()
    assert (found.keys["session_token"], found.temporary) == ("token", True)
    assert found.expires_at == datetime(2999, 1, 1, tzinfo=UTC)


def test_a_session_that_does_not(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, AWS_SESSION_TOKEN="token")
    assert (resolve().temporary, resolve().expires_at) == (True, None)


def test_a_profile_with_its_region_endpoints_and_certificates(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch)
    (aws / "credentials").write_text("[training]\naws_access_key_id = AKIAFILE\naws_secret_access_key = of-the-file\n")
    (aws / "config").write_text(
        "[profile training]\nregion = ap-south-1\nendpoint_url = http://all:1\nca_bundle = /certs.pem\n"
        "services = mine\nuse_fips_endpoint = true\n[services mine]\nec2 =\n  endpoint_url = http://ec2:2\n"
    )
    found = resolve("training")
    assert found.keys == {"access_key_id": "AKIAFILE", "secret_access_key": "of-the-file"}
    assert found.way == {
        "region": "ap-south-1",
        "endpoint": "http://all:1",
        "endpoint.ec2": "http://ec2:2",
        "ca_bundle": "/certs.pem",
        "use_fips_endpoint": "yes",
    }


def test_a_program_that_gives_them(aws: Path) -> None:
    """A profile's `credential_process`, as company log-ins use it."""
    told = {"Version": 1, "AccessKeyId": "ASIA", "SecretAccessKey": "s", "SessionToken": "t"}
    (aws / "told.json").write_text(json.dumps({**told, "Expiration": "2999-01-01T00:00:00Z"}))
    (aws / "config").write_text(f"[profile sso]\ncredential_process = cat {aws / 'told.json'}\n")
    found = resolve("sso")
    assert found.keys == {"access_key_id": "ASIA", "secret_access_key": "s", "session_token": "t"}
    assert found.expires_at == datetime(2999, 1, 1, tzinfo=UTC)


def test_a_proxy_goes_along_unless_the_endpoint_is_excepted(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, HTTPS_PROXY="http://proxy:3128", NO_PROXY="near.example")
    assert resolve().way == {"proxy.https": "http://proxy:3128"}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://near.example")
    assert resolve().way == {"endpoint": "https://near.example"}
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert resolve().way == {"proxy.https": "http://proxy:3128"}


@pytest.mark.parametrize("profile", ["", "nobody"])
def test_none_is_one_line_that_says_what_to_do(aws: Path, profile: str) -> None:
    with pytest.raises(Unauthorized, match="no AWS credentials") as refused:
        resolve(profile)
    assert "\n" not in refused.value.message
    assert "aws sso login" in refused.value.hint


def test_what_is_over_is_said_to_be(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, AWS_SESSION_TOKEN="token", AWS_CREDENTIAL_EXPIRATION="2020-01-01T00:00:00Z")
    with pytest.raises(Unauthorized, match="the AWS credentials here have expired"):
        resolve()


def test_a_half_is_none(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    with pytest.raises(Unauthorized, match="Partial credentials found"):
        resolve()


class Fixed:
    """Keys that a test changes."""

    def __init__(self, credentials: Credentials) -> None:
        self.now = credentials

    def current(self) -> Credentials:
        return self.now

    def expired(self, credentials: Credentials) -> None:
        """Not here."""


def test_the_other_end_uses_nothing_of_its_own(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither variables (those of an object store, say) nor files; and keys that change need no new client."""
    given(monkeypatch, AWS_ENDPOINT_URL="http://store:9000", AWS_REGION="eu-west-1", HTTPS_PROXY="http://proxy:1")
    (aws / "config").write_text("[default]\nendpoint_url = http://file:1\nuse_fips_endpoint = true\n")
    keys = Fixed(Credentials({"access_key_id": "AKIA1", "secret_access_key": "s"}, {}))
    session = handed.session(keys)
    way: dict[str, str] = {}
    client = session.client("sts", region_name="us-east-2", config=handed.config(way), **handed.words(way, "sts"))
    assert client.meta.endpoint_url == "https://sts.us-east-2.amazonaws.com"
    assert "AKIA1" in client.generate_presigned_url("get_caller_identity")
    keys.now = Credentials({"access_key_id": "AKIA2", "secret_access_key": "s", "session_token": "token"}, {})
    url = client.generate_presigned_url("get_caller_identity")
    assert "AKIA2" in url
    assert "token" in url
    way = {"endpoint": "http://all:1", "endpoint.sts": "http://sts:2"}
    client = session.client("sts", region_name="us-east-2", config=handed.config(way), **handed.words(way, "sts"))
    assert client.meta.endpoint_url == "http://sts:2"
