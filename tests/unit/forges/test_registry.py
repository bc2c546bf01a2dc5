"""A forge is one folder and one line: what each folder has to have, and that nothing else knows any of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.domain.errors import ForgeUnauthorized, InvalidRequest
from provisioner.domain.forge import Forge, ForgeCredentials, ForgeKind, Reviews, Site, parse_site, site_at
from provisioner.forges.registry import FOLDERS, folder, open_forge
from tests.fakes.hand_clock import HandClock
from tests.house.places import TOP, sources

BASE = "https://forge.example/root"
FORGES = TOP / "provisioner/forges"
_PORTS = {name for port in (Forge, Reviews) for name in vars(port) if not name.startswith("_")}


def test_every_kind_of_forge_has_its_line_and_every_folder_too() -> None:
    assert set(FOLDERS) == set(ForgeKind)
    assert sorted(FOLDERS.values()) == sorted(one.parent.name for one in FORGES.glob("*/__init__.py"))


@pytest.mark.parametrize("kind", ForgeKind)
async def test_what_is_opened_has_both_ports(kind: ForgeKind) -> None:
    opened = open_forge(kind, BASE, ForgeCredentials(token="t"), HandClock())
    assert {name for name in _PORTS if not hasattr(opened, name)} == set()
    assert opened.kind is kind
    await opened.close()


@pytest.mark.parametrize("kind", ForgeKind)
def test_without_credentials_a_line_says_which(kind: ForgeKind) -> None:
    with pytest.raises(InvalidRequest, match=f"^{BASE} needs a.* token"):
        open_forge(kind, BASE, ForgeCredentials(), HandClock())


@pytest.mark.parametrize("kind", ForgeKind)
def test_every_folder_reads_its_webhooks_alike(kind: ForgeKind) -> None:
    with pytest.raises(ForgeUnauthorized):
        folder(kind).delivery(Site(kind, BASE, ""), {}, b"{}", "secret")


def test_nothing_but_the_registry_and_a_forges_own_folder_knows_it() -> None:
    """So that another forge, Bitbucket say, touches its folder and the registry's line."""
    known = [
        f"{path.relative_to(TOP)}: {name}"
        for path in sources("provisioner", "agent")
        for name in _of_forges(path)
        if not path.is_relative_to(FORGES / name) and path != FORGES / "registry.py"
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
    return found & set(FOLDERS.values())


def test_a_forges_folder_is_imported_when_it_is_opened_and_its_client_when_it_is_asked() -> None:
    code = """
import sys
from provisioner.forges.registry import folder
assert not [name for name in sys.modules if "forges.git" in name]
folder("gitlab")
assert "provisioner.forges.gitea" not in sys.modules
assert "httpx2" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_the_extra_a_line_says_what_to_install() -> None:
    code = """
import sys
sys.modules["httpx2"] = None
from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import ForgeCredentials, ForgeKind
from provisioner.forges.registry import open_forge
from tests.fakes.hand_clock import HandClock
try:
    open_forge(ForgeKind.GITHUB, "https://github.com", ForgeCredentials(token="t"), HandClock())
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
    site = parse_site(url, {"host": "gitlab", "host/gitlab": "gitlab", "host:8443/git/lab": "gitlab"})
    assert (site.base, site.path, site.url.rstrip("/")) == (base, path, f"{base}/{path}".rstrip("/"))


@pytest.mark.parametrize("base", ["https://host/gitlab", "https://host", "https://host:8443/git/lab"])
def test_a_site_is_found_again_from_its_own_words(base: str) -> None:
    site = Site(ForgeKind.GITLAB, base, "team/vision")
    assert site_at(site.url, "gitlab", site.below) == site


def test_a_site_elsewhere_than_its_forge_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="is not at the forge 'https://host/gitlab'"):
        site_at("https://host/gitlabs/team", "gitlab", "https://host/gitlab")
