"""Chores on the database: each leaves what it was asked for, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.app import db
from provisioner.app.home import Home
from provisioner.app.offline import database
from provisioner.app.tls import leaf
from provisioner.domain.errors import Conflict, InvalidRequest
from provisioner.settings import secret_key
from provisioner.store.open import SqlStore, open_store


async def opened(home: Path) -> SqlStore:
    return await open_store(f"sqlite:///{home}/runner.db", secret_key=secret_key(home, {}), home=home)


async def test_a_new_key_opens_secrets_and_keeps_the_authority(tmp_path: Path) -> None:

    home = Home(tmp_path)
    home.make()
    store = await opened(tmp_path)
    await store.records.put_secret("ann", "TOKEN", "of the owner")
    _, _, authority = await leaf(store.records, secret_key(tmp_path, {}), tmp_path / "tls", ["localhost"])
    before = authority.read_bytes()
    await store.close()
    old = secret_key(tmp_path, {})

    assert await database("rekey", tmp_path, None) == "1 secrets are under the new key"

    assert secret_key(tmp_path, {}) != old
    store = await opened(tmp_path)
    assert await store.records.secrets("ann", ["TOKEN"]) == {"TOKEN": "of the owner"}
    _, _, authority = await leaf(store.records, secret_key(tmp_path, {}), tmp_path / "tls", ["localhost"])
    assert authority.read_bytes() == before
    await store.close()


def test_a_backup_can_be_restored_and_what_was_there_is_kept(tmp_path: Path) -> None:
    db("upgrade", tmp_path)
    backup = tmp_path / "kept.db"
    assert db("backup", tmp_path, path=backup) == f"backed up to {backup}"
    assert "the old one is kept" in db("restore", tmp_path, path=backup)
    with pytest.raises(InvalidRequest, match="there already"):
        db("backup", tmp_path, path=backup)


def test_what_is_no_database_is_not_restored(tmp_path: Path) -> None:
    db("upgrade", tmp_path)
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    with pytest.raises(InvalidRequest, match="not a database"):
        db("restore", tmp_path, path=tmp_path / "junk")


def test_chores_wait_for_no_controller_but_say_who_holds_it(tmp_path: Path) -> None:

    home = Home(tmp_path)
    home.make()
    with home.held(), pytest.raises(Conflict, match="in use by the controller with pid"), home.held(patience_s=0.1):
        pass
