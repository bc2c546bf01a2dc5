"""Where GitHub's API is, where in it a site is, and who opens it."""

from __future__ import annotations

import pytest

from provisioner.domain.errors import ForgeRefused, InvalidRequest
from provisioner.domain.forge import ForgeCredentials, ForgeKind, Release, Site
from provisioner.forges.github.account import READS, WRITES, endpoint
from provisioner.forges.github.addresses import api_of, below, repository_of
from provisioner.forges.github.opening import open_forge
from tests.fakes.hand_clock import HandClock


@pytest.mark.parametrize(
    ("base", "api"),
    [
        ("https://github.com", "https://api.github.com"),
        ("https://acme.ghe.com", "https://api.acme.ghe.com"),
        ("https://git.acme.test:8443", "https://git.acme.test:8443/api/v3"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/api/v3"),
    ],
)
def test_each_github_has_its_api_elsewhere(base: str, api: str) -> None:
    assert api_of(base) == api


@pytest.mark.parametrize(
    ("path", "place"),
    [("acme/vision", "/repos/acme/vision"), ("acme", "/orgs/acme"), ("enterprises/big", "/enterprises/big")],
)
def test_a_site_is_a_repository_an_organisation_or_an_enterprise(path: str, place: str) -> None:
    assert below(Site(ForgeKind("github"), "https://github.com", path)) == place


@pytest.mark.parametrize("path", ["acme", "enterprises/big", "a/b/c", ""])
def test_only_a_repository_has_jobs(path: str) -> None:
    with pytest.raises(ForgeRefused, match="is not a repository"):
        repository_of(path)


@pytest.mark.parametrize(
    ("path", "counted"),
    [
        ("/repos/acme/vision/actions/runners/7", "/{site}/actions/runners/{id}"),
        ("/orgs/acme/actions/runners/generate-jitconfig", "/{site}/actions/runners/generate-jitconfig"),
        ("/app/installations/501/access_tokens", "/app/installations/{id}/access_tokens"),
    ],
)
def test_what_is_asked_of_many_sites_is_one_endpoint(path: str, counted: str) -> None:
    assert endpoint("GET", path) == (f"GET {counted}", READS)
    assert endpoint("POST", path) == (f"POST {counted}", WRITES)


def test_without_credentials_it_is_not_opened() -> None:
    for given in (ForgeCredentials(), ForgeCredentials(app_id="Iv1"), ForgeCredentials(private_key="k")):
        with pytest.raises(InvalidRequest, match="needs a token, or an App's id and private key"):
            open_forge("https://github.com", given, HandClock(), Release())
    assert open_forge("https://github.com", ForgeCredentials(token="t"), HandClock(), Release()).kind == "github"
