"""How long one question about a GPU takes of a catalogue of 30,000 prices: in this process, tables read before.

The catalogue is the one that ships, with a price made up for each place in which a type is offered, spot and on-demand,
up to that many; an account's own, refreshed, is of this size. Two figures: the offers alone, and the whole ladder in
its order with a reason for each that is not taken.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from provisioner.domain.gpu import parse_gpu
from provisioner.domain.job import Need
from provisioner.domain.offer import Offer
from provisioner.domain.place import place
from provisioner.providers.aws.catalog import SHIPPED, Catalog
from provisioner.providers.aws.latest import Latest
from provisioner.providers.aws.provider import Options, offered

from .measure import say

ROWS = 30_000
_TIMES = 30
_ASKED = ("T4", "A10G:4", ">=24GB")


def main() -> None:
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        latest = Latest(Path(folder) / "aws")
        shipped = Catalog(SHIPPED)
        kept = {name: [tuple(line.split("\t")) for line in shipped.lines(name)] for name in ("types", "zones")}
        latest.replace({**kept, "prices": list(islice(_prices(shipped, now.isoformat()), ROWS))}, now)
        rows = len(latest.catalog.lines("prices"))
        began_s = time.perf_counter()
        found = offered(latest, Options(), Need(gpu=parse_gpu(_ASKED[0])))
        say(
            f"offers for a T4 of {rows} prices, the first, files read",
            f"{(time.perf_counter() - began_s) * 1e3:.0f} ms",
        )
        for asked in _ASKED:
            need = Need(gpu=parse_gpu(asked))
            found = offered(latest, Options(), need)
            words = f"{len(found)} offers"
            say(f"offers for {asked}, cached: {words}", _timed(lambda n=need: offered(latest, Options(), n)), "50 ms")
            say(f"ladder for {asked}, cached: {words}", _timed(lambda n=need: _ladder(latest, n, now)), "50 ms")


def _prices(catalog: Catalog, date: str) -> Iterator[tuple[object, ...]]:
    """Of types with a GPU first, so that all that is asked for has prices."""
    for kind in sorted(catalog.types.values(), key=lambda kind: (kind.gpu is None, kind.name)):
        for region, zones in catalog.zones(kind.name).items():
            yield kind.name, region, "on-demand", "1.00", "made up", date
            yield from ((kind.name, zone, "spot", "0.40", "made up", date) for zone in zones)


def _ladder(latest: Latest, need: Need, now: datetime) -> object:
    return place(need, offered(latest, Options(), need), (), now)


def _timed(work: Callable[[], list[Offer] | object]) -> str:
    took = []
    for _ in range(_TIMES):
        began_s = time.perf_counter()
        work()
        took.append((time.perf_counter() - began_s) * 1e3)
    return f"{statistics.median(took):.1f} ms ({min(took):.1f} to {max(took):.1f})"


if __name__ == "__main__":
    main()
