"""What the shipped tables say, and that it is what their sources say."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from provisioner.domain.gpu import parse_gpu, satisfies
from provisioner.domain.job import MarketPolicy, Need
from provisioner.domain.offer import Market
from provisioner.domain.place import place
from provisioner.providers.aws.catalog import SHIPPED, Catalog
from tests.house import aws_catalog

NOW = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)


def rows(name: str) -> list[list[str]]:
    return [line.split("\t") for line in (SHIPPED / f"{name}.tsv").read_text().splitlines()]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog()


@pytest.mark.parametrize("name", ["types", "zones", "prices"])
def test_every_row_has_a_source_and_a_date(name: str) -> None:
    head, *body = rows(name)
    assert head[-2:] == ["source", "date"]
    assert len(body) > 700
    for row in body:
        assert len(row) == len(head)
        assert row[-2]
        datetime.date.fromisoformat(row[-1])


def test_types_and_zones_are_what_the_script_makes_of_its_source() -> None:
    date = rows("types")[1][-1]
    for name, made in (("types", aws_catalog.types(date)), ("zones", aws_catalog.zones(date))):
        assert sorted([str(cell) for cell in row] for row in made) == rows(name)[1:]


def test_a_price_is_the_sources_own(catalog: Catalog) -> None:
    """Read by eye from the source: g4dn.xlarge in us-east-1."""
    offers = {(o.zone, o.market): o for o in catalog.offers(Need(instance_type="g4dn.xlarge"), disk_gib=100)}
    assert offers["use1-az1", Market.ON_DEMAND].usd_per_hour == Decimal("0.526")
    assert "SkyPilot" in offers["use1-az1", Market.ON_DEMAND].price_source
    spot = [o.usd_per_hour for (zone, market), o in offers.items() if market is Market.SPOT and zone.startswith("use1")]
    assert all(price is not None and 0 < price < Decimal("0.526") for price in spot)


def test_a_price_that_no_source_has_is_unknown_and_never_zero(catalog: Catalog) -> None:
    offers = list(catalog.offers(Need(gpu=parse_gpu("T4")), disk_gib=100))
    unknown = [offer for offer in offers if offer.usd_per_hour is None]
    assert unknown
    assert all(offer.price_source == "no source has it" for offer in unknown)
    assert all(offer.usd_per_hour for offer in offers if offer not in unknown)


@pytest.mark.parametrize("asked", ["T4", "A10G:4", "A100-80GB:8", ">=40GB", "compute>=9.0:8", "L4"])
def test_all_types_that_satisfy_a_request_compete(catalog: Catalog, asked: str) -> None:
    need = Need(gpu=parse_gpu(asked), market=MarketPolicy.ON_DEMAND)
    offered = {offer.instance_type for offer in catalog.offers(need, disk_gib=100)}
    able = {kind.name for kind in catalog.types.values() if satisfies(kind.gpu, parse_gpu(asked))}
    placed = catalog.zones
    assert {name for name in able if placed(name)} <= offered
    best = place(need, catalog.offers(need, disk_gib=100), [], NOW).best
    assert best is not None
    assert best.instance_type in able


def test_what_is_too_small_is_offered_so_that_why_can_say_so(catalog: Catalog) -> None:
    need = Need(gpu=parse_gpu("A100:16"))
    ladder = place(need, catalog.offers(need, disk_gib=100), [], NOW)
    assert ladder.impossible
    assert {rung.refused for rung in ladder.rungs} == {"has 8 x A100, asked for A100:16"}


def test_a_slice_is_told_from_a_whole_gpu(catalog: Catalog) -> None:
    slices = {
        kind.name for kind in catalog.types.values() if kind.gpu and kind.gpu.name == "L4" and kind.gpu.memory_gb < 20
    }
    assert slices
    need = Need(gpu=parse_gpu("L4"))
    ladder = place(need, catalog.offers(need, disk_gib=100), [], NOW)
    assert not slices & {rung.offer.instance_type for rung in ladder.rungs if not rung.refused}


def test_only_the_regions_that_were_asked_for(catalog: Catalog) -> None:
    need = Need(gpu=parse_gpu("T4"), regions=("eu-west-1",))
    assert {offer.scope for offer in catalog.offers(need, disk_gib=100)} == {"eu-west-1"}


def test_a_folder_that_is_no_catalogue_is_said(tmp_path: Path) -> None:
    for name in ("types", "zones", "prices"):
        (tmp_path / f"{name}.tsv").write_text("nonsense")
    with pytest.raises(ValueError, match="is not a table"):
        list(Catalog(tmp_path).offers(Need(), disk_gib=1))
