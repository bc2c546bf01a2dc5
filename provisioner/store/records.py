"""Every other row: events, charges, refusals, readings, manifests, tokens, sessions, secrets, facts of ours."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, delete, func, insert, or_, select, update

from provisioner.domain.errors import Forbidden, StaleWrite
from provisioner.domain.money import ADJUSTED, Charge
from provisioner.domain.place import Refusal
from provisioner.domain.store import Event, ManifestRow, TokenRow

from . import codec, ledger
from .schema import charges, events, jobs, joins, manifests, meta, readings, refusals, secrets, tokens
from .sealing import Sealer
from .sql import Database


class SqlRecords:
    """The Records port."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._db = database
        self._sealer = sealer

    async def controller_id(self) -> str:
        value = await self.meta("controller_id")
        assert value is not None
        return value

    async def meta(self, key: str) -> str | None:
        query = select(meta.c.value).where(meta.c.key == key)
        return await self._db.run(lambda c: c.scalar(query))

    async def set_meta(self, key: str, value: str, *, only_new: bool = False) -> str:
        def work(connection: Connection) -> str:
            there = connection.scalar(select(meta.c.value).where(meta.c.key == key))
            if there is None:
                connection.execute(insert(meta).values(key=key, value=value))
            elif only_new:
                return str(there)
            else:
                connection.execute(update(meta).where(meta.c.key == key).values(value=value))
            return value

        return await self._db.insert(work)

    async def record(self, event: Event) -> Event:
        def work(connection: Connection) -> Event:
            key = ledger.note(
                connection,
                event.what,
                event.at,
                event.message,
                job_id=event.job_id,
                attempt=event.attempt,
                instance_id=event.instance_id,
                data=event.data,
            )
            return replace(event, id=key)

        return await self._db.run(work)

    async def events(
        self, *, after: int = 0, job_id: str = "", instance_id: str = "", what: str = "", limit: int = 1000
    ) -> list[Event]:
        query = select(events).where(events.c.id > after).order_by(events.c.id).limit(limit)
        if job_id:
            query = query.where(events.c.job_id == job_id)
        if instance_id:
            query = query.where(events.c.instance_id == instance_id)
        if what:
            query = query.where(events.c.what == what)
        return await self._db.run(lambda c: [codec.event(row) for row in c.execute(query).mappings()])

    async def charges(
        self, *, job_id: str = "", instance_id: str = "", since: datetime | None = None, open_only: bool = False
    ) -> list[Charge]:
        query = select(charges).order_by(charges.c.id)
        if job_id:
            query = query.where(charges.c.job_id == job_id)
        if instance_id:
            query = query.where(charges.c.instance_id == instance_id)
        if since is not None:
            query = query.where(or_(charges.c.closed_at.is_(None), charges.c.closed_at >= since.timestamp()))
        if open_only:
            query = query.where(charges.c.closed_at.is_(None))
        return await self._db.run(lambda c: [codec.charge(row) for row in c.execute(query).mappings()])

    async def refuse(self, refusal: Refusal) -> None:
        row = {"until": refusal.until.timestamp(), "why": refusal.why, "times": refusal.times}

        def work(connection: Connection) -> None:
            changed = connection.execute(update(refusals).where(refusals.c.scope == refusal.scope).values(**row))
            if changed.rowcount == 0:
                connection.execute(insert(refusals).values(scope=refusal.scope, **row))

        await self._db.run(work)

    async def refusals(self, now: datetime) -> list[Refusal]:
        """Those past their time for less than an hour are included, so that a repeat doubles the cool-down."""
        query = select(refusals).where(refusals.c.until > now.timestamp() - 3600)
        return await self._db.run(
            lambda c: [
                Refusal(row["scope"], codec.when(row["until"]), row["why"], row["times"])
                for row in c.execute(query).mappings()
            ]
        )

    async def expect_join(self, instance_id: str, token_sha256: str, expires_at: datetime) -> None:
        def work(connection: Connection) -> None:
            mine, at = joins.c.instance_id == instance_id, expires_at.timestamp()
            if connection.scalar(select(joins.c.instance_id).where(mine)) is None:
                row = {"token_sha256": token_sha256, "expires_at": at}
                connection.execute(insert(joins).values(instance_id=instance_id, **row))
            else:
                unused = mine & joins.c.nonce_sha256.is_(None) & (joins.c.expires_at < at)
                connection.execute(update(joins).where(unused).values(expires_at=at))

        await self._db.run(work)

    async def join(
        self, instance_id: str, token_sha256: str, nonce_sha256: str, session_sha256: str, at: datetime
    ) -> None:
        def work(connection: Connection) -> bool:
            row = connection.execute(select(joins).where(joins.c.instance_id == instance_id)).mappings().first()
            if row is None or row["token_sha256"] != token_sha256:
                raise Forbidden("this join token is not known")
            if row["nonce_sha256"] is not None:
                return bool(row["nonce_sha256"] == nonce_sha256)
            if row["expires_at"] < at.timestamp():
                raise Forbidden("this join token has expired")
            values = {"nonce_sha256": nonce_sha256, "session_sha256": session_sha256}
            connection.execute(update(joins).where(joins.c.instance_id == instance_id).values(**values))
            ledger.note(connection, "instance.joined", at, instance_id=instance_id)
            return True

        if not await self._db.run(work):
            await self.record(
                Event("instance.join_refused", at, "its join token was used by somebody else", instance_id=instance_id)
            )
            raise Forbidden("this join token was used before, by another machine")

    async def session(self, session_sha256: str) -> str | None:
        query = select(joins.c.instance_id).where(joins.c.session_sha256 == session_sha256)
        return await self._db.run(lambda c: c.scalar(query))

    async def add_token(self, row: TokenRow, token_sha256: str) -> None:
        values = {
            "id": row.id,
            "sha256": token_sha256,
            "name": row.name,
            "role": row.role,
            "created_at": row.created_at.timestamp(),
            "expires_at": codec.stamp(row.expires_at),
        }
        await self._db.run(lambda c: c.execute(insert(tokens).values(**values)) and None)

    async def token(self, token_sha256: str, at: datetime) -> TokenRow | None:
        def work(connection: Connection) -> TokenRow | None:
            row = connection.execute(select(tokens).where(tokens.c.sha256 == token_sha256)).mappings().first()
            if row is None or (row["expires_at"] is not None and row["expires_at"] <= at.timestamp()):
                return None
            if at.timestamp() - (row["last_used_at"] or 0) > 60:
                connection.execute(update(tokens).where(tokens.c.id == row["id"]).values(last_used_at=at.timestamp()))
            return _token(row)

        return await self._db.run(work)

    async def tokens(self) -> list[TokenRow]:
        query = select(tokens).order_by(tokens.c.created_at)
        return await self._db.run(lambda c: [_token(row) for row in c.execute(query).mappings()])

    async def drop_token(self, token_id: str) -> None:
        await self._db.run(lambda c: c.execute(delete(tokens).where(tokens.c.id == token_id)) and None)

    async def put_secret(self, owner: str, name: str, value: str, *, job_id: str = "") -> None:
        row = {"sealed": self._sealer.seal(value), "fingerprint": self._sealer.fingerprint(value)}
        where = and_(secrets.c.owner == owner, secrets.c.job_id == job_id, secrets.c.name == name)

        def work(connection: Connection) -> None:
            now = time.time()
            if connection.execute(update(secrets).where(where).values(**row, set_at=now)).rowcount == 0:
                connection.execute(insert(secrets).values(owner=owner, job_id=job_id, name=name, set_at=now, **row))

        await self._db.run(work)

    async def secrets(self, owner: str, names: Collection[str], *, job_id: str = "") -> dict[str, str]:
        own = or_(secrets.c.job_id == "", secrets.c.job_id == job_id)
        query = select(secrets).where(secrets.c.owner == owner, own, secrets.c.name.in_(list(names)))
        query = query.order_by(secrets.c.job_id)
        rows = await self._db.run(lambda c: [(r["name"], r["sealed"]) for r in c.execute(query).mappings()])
        return {name: self._sealer.open(sealed) for name, sealed in rows}

    async def secret_names(self, owner: str) -> list[tuple[str, str, datetime]]:
        query = select(secrets).where(secrets.c.owner == owner, secrets.c.job_id == "").order_by(secrets.c.name)
        return await self._db.run(
            lambda c: [(r["name"], r["fingerprint"], codec.when(r["set_at"])) for r in c.execute(query).mappings()]
        )

    async def drop_secret(self, owner: str, name: str) -> None:
        where = and_(secrets.c.owner == owner, secrets.c.job_id == "", secrets.c.name == name)
        await self._db.run(lambda c: c.execute(delete(secrets).where(where)) and None)

    async def rekey(self, new_key: bytes) -> int:
        new = Sealer(new_key)

        def work(connection: Connection) -> int:
            rows = connection.execute(select(secrets)).mappings().all()
            for row in rows:
                value = self._sealer.open(row["sealed"])
                where = and_(*(secrets.c[k] == row[k] for k in ("owner", "job_id", "name")))
                changed = {"sealed": new.seal(value), "fingerprint": new.fingerprint(value)}
                connection.execute(update(secrets).where(where).values(**changed))
            return len(rows)

        count = await self._db.run(work)
        self._sealer = new
        return count

    async def put_manifest(self, row: ManifestRow) -> bool:
        def work(connection: Connection) -> bool:
            newest = connection.scalar(select(jobs.c.attempts).where(jobs.c.id == row.job_id))
            if newest != row.number:
                raise StaleWrite(f"attempt {row.number} of {row.job_id} is not the newest")
            mine = and_(
                manifests.c.job_id == row.job_id, manifests.c.number == row.number, manifests.c.area == row.area
            )
            later = or_(manifests.c.sequence >= row.sequence, manifests.c.final)
            if connection.scalar(select(func.count()).select_from(manifests).where(mine, later)):
                return False
            if row.area == "results":
                connection.execute(delete(manifests).where(mine))
            connection.execute(
                insert(manifests).values(
                    job_id=row.job_id,
                    number=row.number,
                    area=row.area,
                    sequence=row.sequence,
                    final=row.final,
                    at=row.at.timestamp(),
                    body=json.dumps(row.body),
                )
            )
            return True

        return await self._db.run(work)

    async def manifests(self, job_id: str, area: str) -> list[ManifestRow]:
        query = select(manifests).where(manifests.c.job_id == job_id, manifests.c.area == area)
        query = query.order_by(manifests.c.number, manifests.c.sequence)
        return await self._db.run(lambda c: [_manifest(row) for row in c.execute(query).mappings()])

    async def drop_manifest(self, row: ManifestRow) -> None:
        where = and_(*(manifests.c[k] == getattr(row, k) for k in ("job_id", "number", "area", "sequence")))
        await self._db.run(lambda c: c.execute(delete(manifests).where(where)) and None)

    async def add_readings(
        self, job_id: str, number: int, instance_id: str, rows: Sequence[tuple[datetime, Mapping[str, Any]]]
    ) -> None:
        values = [
            {
                "job_id": job_id,
                "number": number,
                "instance_id": instance_id,
                "at": at.timestamp(),
                "values": json.dumps(dict(row)),
            }
            for at, row in rows
        ]
        if values:
            await self._db.run(lambda c: c.execute(insert(readings), values) and None)

    async def readings(self, job_id: str, number: int) -> list[tuple[datetime, Mapping[str, Any]]]:
        query = select(readings).where(readings.c.job_id == job_id, readings.c.number == number).order_by(readings.c.at)
        return await self._db.run(
            lambda c: [(codec.when(r["at"]), json.loads(r["values"])) for r in c.execute(query).mappings()]
        )

    async def prune(self, *, events_before: datetime, readings_before: datetime) -> int:
        def work(connection: Connection) -> int:
            late = and_(events.c.at < events_before.timestamp(), events.c.what != ADJUSTED)
            old = connection.execute(delete(events).where(late)).rowcount
            return (
                old + connection.execute(delete(readings).where(readings.c.at < readings_before.timestamp())).rowcount
            )

        return await self._db.run(work)


def _token(row: RowMapping) -> TokenRow:
    return TokenRow(
        id=row["id"],
        name=row["name"],
        role=row["role"],
        created_at=codec.when(row["created_at"]),
        expires_at=codec.when_or_none(row["expires_at"]),
        last_used_at=codec.when_or_none(row["last_used_at"]),
    )


def _manifest(row: RowMapping) -> ManifestRow:
    return ManifestRow(
        job_id=row["job_id"],
        number=row["number"],
        area=row["area"],
        sequence=row["sequence"],
        final=bool(row["final"]),
        at=codec.when(row["at"]),
        body=json.loads(row["body"]),
    )
