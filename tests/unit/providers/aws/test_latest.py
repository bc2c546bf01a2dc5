"""Which catalogue is used: the newest that is whole."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from provisioner.domain.job import Need
from provisioner.providers.aws.catalog import SHIPPED, Catalog
from provisioner.providers.aws.latest import Latest
from provisioner.providers.aws.tables import Table

LATER = Catalog(SHIPPED).read_at + timedelta(days=1)
ROWS: dict[Table, list[tuple[object, ...]]] = {
    "types": [("t9.large", 2, 8192, "x86_64", "", 0, 0, 1.0, 0, "spot,on-demand", "a test", "2027-01-01")],
    "zones": [
        ("t9.large", "north:n-1,n-2", "a test", "2027-01-01"),
        ("t9.large", "south:s-1", "an older test", "2026-12-01"),
    ],
    "prices": [("t9.large", "north", "on-demand", "0.1", "a test", "2027-01-01T10:00:00+00:00")],
}


def names(latest: Latest) -> set[str]:
    return {offer.instance_type for offer in latest.offers(Need(instance_type="t9.large"), disk_gib=10)}


@pytest.fixture
def latest(tmp_path: Path) -> Latest:
    return Latest(tmp_path / "offers/aws")


def test_without_a_refresh_it_is_what_ships(latest: Latest) -> None:
    assert latest.catalog.read_at == Catalog(SHIPPED).read_at


def test_a_refresh_is_used_at_once_by_whoever_looks(latest: Latest, tmp_path: Path) -> None:
    other = Latest(tmp_path / "offers/aws")
    assert "t9.large" not in names(other)
    latest.replace(ROWS, LATER)
    assert names(other) == {"t9.large"}
    offers = list(other.offers(Need(), disk_gib=10))
    assert {(o.region, o.zone) for o in offers} == {("north", "n-1"), ("north", "n-2"), ("south", "s-1")}
    assert {o.priced_at for o in offers if o.usd_per_hour} == {datetime(2027, 1, 1, 10, tzinfo=UTC)}


def test_one_older_than_what_ships_is_not_used(latest: Latest) -> None:
    latest.replace(ROWS, LATER - timedelta(days=400))
    assert "t9.large" not in names(latest)


def test_a_damaged_one_is_passed_over(latest: Latest) -> None:
    latest.replace(ROWS, LATER)
    damaged = latest.replace(ROWS, LATER + timedelta(days=1))
    (damaged / "prices.tsv").unlink()
    assert names(latest) == {"t9.large"}
    for folder in damaged.parent.iterdir():
        shutil.rmtree(folder)
    assert "t9.large" not in names(latest)


def test_the_newest_two_are_kept(latest: Latest) -> None:
    made = [latest.replace(ROWS, LATER + timedelta(hours=n)) for n in range(4)]
    assert [folder.exists() for folder in made] == [False, False, True, True]
