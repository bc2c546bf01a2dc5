"""Pools in the settings file: what is wrong is said with its place, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.forge import ForgeKind, Site
from provisioner.domain.gpu import GpuNeed
from provisioner.domain.job import MarketPolicy, Need
from provisioner.domain.pools import Pool, Window
from provisioner.forges.registry import known
from provisioner.pool_settings import make_pools
from provisioner.settings import load

WHOLE = """
pools:
  - name: gpu
    sites: [https://github.com/acme]
    labels: [self-hosted, gpu, gpu]
    resources: {gpu: T4, market: on-demand, disk: 100, provider: aws}
    max: 20
    min_idle: 2
    per_repository: 5
    idle_timeout: 5m
    max_lifetime: 6h
    schedule:
      - {days: mon-fri, from: "08:00", to: 18:00, timezone: Europe/Berlin}
      - {days: [sat, sun-mon], from: 22:00, to: "06:00"}
    forks: allow
    group: gpus
"""


def pools(home: Path, text: str) -> tuple[Pool, ...]:
    (home / "settings.yaml").write_text(text)
    return make_pools(load(home, {}, known()).pools, known())


def test_all_that_can_be_said_of_a_pool(tmp_path: Path) -> None:
    (found,) = pools(tmp_path, WHOLE)
    assert found == Pool(
        "gpu",
        (Site(ForgeKind("github"), "https://github.com", "acme"),),
        ("self-hosted", "gpu"),
        need=Need(GpuNeed(name="T4"), disk_gib=100, market=MarketPolicy.ON_DEMAND, providers=("aws",)),
        max=20,
        min_idle=2,
        per_repository=5,
        idle_timeout_s=300,
        max_lifetime_s=21600,
        windows=(Window(frozenset(range(5)), 480, 1080, "Europe/Berlin"), Window(frozenset({5, 6, 0}), 1320, 360)),
        forks=True,
        group="gpus",
    )


def test_little_suffices_and_forks_are_not_trusted(tmp_path: Path) -> None:
    (found,) = pools(tmp_path, "pools: [{name: a, sites: [ghe.acme.ghe.com/o/r], labels: [x], max: 1}]")
    assert (found.forks, found.min_idle, found.idle_timeout_s) == (False, 0, 600)
    assert found.sites == (Site(ForgeKind("github"), "https://ghe.acme.ghe.com", "o/r"),)


BASE = "name: a, sites: [https://github.com/o], labels: [x], max: 3"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("name: a, sites: [https://github.com/o], labels: [x]", r"pools\.0\.max: Field required"),
        ("name: A b, sites: [https://github.com/o], labels: [x], max: 1", r"pools\.0\.name"),
        ("name: a, sites: [], labels: [x], max: 1", r"pools\.0\.sites"),
        ("name: a, sites: [https://forge.acme.example/o], labels: [x], max: 1", "pools: a: what kind of forge is"),
        ("name: a, sites: [https://github.com/o], labels: ['a b'], max: 1", "'a b' is not a label"),
        (f"{BASE}, min_idle: 4", "min_idle of 4 is more than max of 3"),
        (f"{BASE}, idle_timeout: soon", "'soon' is not a duration; write 90"),
        (f"{BASE}, max_lifetime: 0", "max_lifetime has to be above zero"),
        (f"{BASE}, max_lifetime: 99999999d", r"pools\.0\.max_lifetime: .* is over the longest duration, 10 years"),
        (f"{BASE}, forks: maybe", r"pools\.0\.forks"),
        (f"{BASE}, resources: {{gpu: 'T4:x'}}", r"pools\.0\.resources\.gpu"),
        (f"{BASE}, resources: {{gpus: T4}}", r"pools\.0\.resources\.gpus"),
        (f"{BASE}, resources: {{max_price: 0}}", r"pools\.0\.resources\.max_price"),
        (f"{BASE}, schedule: [{{from: '8', to: '9:00'}}]", "'8' is not a time; write"),
        (f"{BASE}, min_idle: 1, schedule: [{{days: funday, from: '8:00', to: '9:00'}}]", "'funday' is not a day"),
        (f"{BASE}, min_idle: 1, schedule: [{{from: '8:00', to: '8:00'}}]", "a window has to last"),
        (f"{BASE}, min_idle: 1, schedule: [{{from: '8:00', to: '9:00', timezone: Mars}}]", "'Mars' is not a time zone"),
        (f"{BASE}, schedule: [{{from: '8:00', to: '9:00'}}]", "a schedule says when min_idle are kept"),
        (
            "name: a, sites: [https://github.com/o, https://github.com/p], labels: [x], max: 3, min_idle: 1",
            "min_idle needs one site",
        ),
        (f"{BASE.replace('[x]', '[x, y]')}, scale_set: true", "a scale set is of one site and has one label"),
        ("name: a, sites: [https://gitlab.com/o], labels: [x], max: 1, scale_set: true", "only GitHub has scale sets"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, given: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        pools(tmp_path, f"pools: [{{{given}}}]")


def test_two_pools_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="two pools are called 'a'"):
        pools(tmp_path, f"pools: [{{{BASE}}}, {{{BASE}}}]")


@pytest.mark.parametrize(
    ("site", "labels", "meets"),
    [
        ("https://github.com/o", "[gpu, SET]", True),
        ("https://github.com/o/r", "[set]", True),
        ("https://github.com/other", "[set]", False),
        ("https://ghe.acme.ghe.com/o", "[set]", False),
        ("https://github.com/o", "[gpu]", False),
    ],
)
def test_the_label_of_a_scale_set_is_its_own(tmp_path: Path, site: str, labels: str, meets: bool) -> None:
    mine = "{name: a, sites: [https://github.com/o], labels: [set], max: 1, scale_set: true}"
    text = f"pools: [{{name: b, sites: [{site}], labels: {labels}, max: 1}}, {mine}]"
    if meets:
        with pytest.raises(InvalidRequest, match="pools: b has the label of the scale set of a"):
            pools(tmp_path, text)
    else:
        assert [one.scale_set for one in pools(tmp_path, text)] == [False, True]


def test_the_kind_of_a_forge_may_be_said_here_or_elsewhere(tmp_path: Path) -> None:
    text = "pools: [{name: a, sites: [https://git.acme.example/o], labels: [x], max: 3%s}]"
    (found,) = pools(tmp_path, text % ", forge: gitea")
    assert found.sites[0].kind == ForgeKind("gitea")
    (tmp_path / "settings.yaml").write_text(text % "")
    (found,) = make_pools(load(tmp_path, {}, known()).pools, known(), {"git.acme.example": "gitlab"})
    assert found.sites[0].kind == ForgeKind("gitlab")


def test_a_pool_may_be_at_a_forge_below_its_hosts_root(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("pools: [{name: a, sites: [https://host/gitlab/o], labels: [x], max: 3}]")
    (found,) = make_pools(load(tmp_path, {}, known()).pools, known(), {"host/gitlab": "gitlab"})
    assert found.sites == (Site(ForgeKind("gitlab"), "https://host/gitlab", "o"),)
