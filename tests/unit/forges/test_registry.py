"""A forge is one folder and one line: what each folder has to have, and that nothing else knows any of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.domain.errors import ForgeUnauthorized, InvalidRequest
from provisioner.domain.forge import Forge, ForgeCredentials, ForgeKind, Reviews, Site, site_at
from provisioner.domain.kinds import Declared
from provisioner.forges.registry import folder, known, open_forge
from tests.fakes.hand_clock import HandClock
from tests.house.places import TOP, sources

BASE = "https://forge.example/root"
FORGES = TOP / "provisioner/forges"
_PORTS = {name for port in (Forge, Reviews) for name in vars(port) if not name.startswith("_")}


def test_every_folder_is_a_kind_of_forge_and_is_called_like_it() -> None:
    assert [one.kind for one in known()] == sorted(one.parent.name for one in FORGES.glob("*/__init__.py"))


@pytest.mark.parametrize("declared", known(), ids=lambda one: one.kind)
def test_what_a_forge_says_that_it_can_is_there(declared: Declared) -> None:
    opening = folder(declared)
    assert hasattr(opening, "redeliver") == declared.redelivers
    assert hasattr(opening, "open_queue") == declared.scale_sets
    assert bool(declared.issuer_hint) or declared.vouching is None or declared.vouching.issuer("https://any")


def test_a_policy_that_names_no_kind_is_of_one() -> None:
    assert [one.name for one in known() if one.usual] == ["GitHub"]


@pytest.mark.parametrize("declared", known(), ids=lambda one: one.kind)
async def test_what_is_opened_has_both_ports(declared: Declared) -> None:
    opened = open_forge(declared, BASE, ForgeCredentials(token="t"), HandClock())
    assert {name for name in _PORTS if not hasattr(opened, name)} == set()
    assert opened.kind == declared.kind
    await opened.close()


@pytest.mark.parametrize("declared", known(), ids=lambda one: one.kind)
def test_without_credentials_a_line_says_which(declared: Declared) -> None:
    with pytest.raises(InvalidRequest, match=f"^{BASE} needs a.* token"):
        open_forge(declared, BASE, ForgeCredentials(), HandClock())


@pytest.mark.parametrize("declared", known(), ids=lambda one: one.kind)
def test_every_folder_reads_its_webhooks_alike(declared: Declared) -> None:
    with pytest.raises(ForgeUnauthorized):
        folder(declared).delivery(Site(declared.kind, BASE, ""), {}, b"{}", "secret")


def test_nothing_but_a_forges_own_folder_imports_any_of_it() -> None:
    """So that another forge, Bitbucket say, touches its folder alone."""
    known = [
        f"{path.relative_to(TOP)}: {name}"
        for path in sources("provisioner", "agent")
        for name in _of_forges(path)
        if not path.is_relative_to(FORGES / name)
    ]
    assert known == []


def _of_forges(path: Path) -> set[str]:
    """The forges' folders that a module imports something of."""
    found: set[str] = set()
    package = list(path.relative_to(TOP).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {part for alias in node.names for part in alias.name.split(".")}
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level] if node.level else []
            whole = [*above, *(node.module or "").split("."), *(alias.name for alias in node.names)]
            if "forges" in whole:
                found |= set(whole)
    return found & {one.kind for one in known()}


def test_what_opens_a_forge_is_imported_when_it_is_opened_and_its_client_when_it_is_asked() -> None:
    code = """
import sys
from provisioner.forges.registry import folder, known
assert not [name for name in sys.modules if "forges.git" in name]
folder(known().of("gitlab"))
assert "provisioner.forges.gitea.forge" not in sys.modules
assert "httpx2" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_the_extra_a_line_says_what_to_install() -> None:
    code = """
import sys
sys.modules["httpx2"] = None
from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import ForgeCredentials
from provisioner.forges.registry import known, open_forge
from tests.fakes.hand_clock import HandClock
try:
    open_forge(known().of("github"), "https://github.com", ForgeCredentials(token="t"), HandClock())
except InvalidRequest as error:
    print(error.message, error.hint, sep="; ")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.stdout == (
        "forges need httpx2, which is not installed; at the top of the clone: pip install '.[forges]'\n"
    ), done.stderr


def test_credentials_show_nothing() -> None:
    shown = ForgeCredentials("tok-1", "app-2", "key-3", "https://api-4")
    assert repr(shown) + str(shown) + f"{shown}" == "ForgeCredentials()" * 3


@pytest.mark.parametrize(
    ("url", "base", "path"),
    [
        ("https://gitlab.com/team/vision.git", "https://gitlab.com", "team/vision"),
        ("https://host/gitlab/team/vision", "https://host/gitlab", "team/vision"),
        ("https://host/gitlab", "https://host/gitlab", ""),
        ("https://host/gitlabs/team", "https://host", "gitlabs/team"),
        ("https://host:8443/git/lab/team", "https://host:8443/git/lab", "team"),
    ],
)
def test_a_forge_may_live_below_its_hosts_root(url: str, base: str, path: str) -> None:
    site = known().site(url, {"host": "gitlab", "host/gitlab": "gitlab", "host:8443/git/lab": "gitlab"})
    assert (site.base, site.path, site.url.rstrip("/")) == (base, path, f"{base}/{path}".rstrip("/"))


@pytest.mark.parametrize("base", ["https://host/gitlab", "https://host", "https://host:8443/git/lab"])
def test_a_site_is_found_again_from_its_own_words(base: str) -> None:
    site = Site(ForgeKind("gitlab"), base, "team/vision")
    assert site_at(site.url, "gitlab", site.below) == site


def test_a_site_elsewhere_than_its_forge_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="is not at the forge 'https://host/gitlab'"):
        site_at("https://host/gitlabs/team", "gitlab", "https://host/gitlab")
