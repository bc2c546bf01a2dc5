"""Two controllers on one PostgreSQL and one object store, whose machines are in one folder of this host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.fakes import postgres, s3
from tests.system.world import World


@dataclass
class Pair:
    """Two homes on one database."""

    a: World
    b: World
    database: str

    def ready(self) -> None:
        """Both run, and each knows of the other, so that whichever launches a machine tells it of both."""
        for world in (self.a, self.b):
            world.json("ps")
        known = "select count(*) from controllers one, controllers two where one.holder <> two.holder"
        with psycopg.connect(self.database) as connection:
            knew = f"{known} and one.seen_at > two.since"
            self.a.until(lambda: connection.execute(knew).fetchone() == (2,), 90, "each to know the other")


@contextlib.contextmanager
def paired(folder: Path, kind: type[World] = World, settings: str = "") -> Iterator[Pair]:
    """`settings` is more text for both's settings.yaml."""
    (folder / "s3").mkdir()
    with postgres.server() as database, s3.moto(folder / "s3") as store:
        store.make_bucket("team-data")
        keys = {
            "AWS_ENDPOINT_URL": store.endpoint,
            "AWS_ACCESS_KEY_ID": store.access_key,
            "AWS_SECRET_ACCESS_KEY": store.secret_key,
            "AWS_REGION": "us-east-1",
            "RUNNER_OBJECTS_URL": "s3://team-data/runner",
            "RUNNER_STORE_URL": database,
            "RUNNER_SECRET_KEY": "a" * 64,
        }
        worlds = [kind(folder / name, extra=dict(keys)) for name in ("a", "b")]
        for world in worlds:
            world.home.mkdir(mode=0o700)
            shared = f"local: {{machines: {folder / 'a' / 'machines'}}}\n"
            (world.home / "settings.yaml").write_text(shared + settings)
        try:
            yield Pair(*worlds, database)
        finally:
            for world in worlds:
                world.close()
