"""The keys of a running server: new ones work at once, revoked ones stop at the next look."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from orchestrator.keys.key import new_key
from orchestrator.keys.ring import KeyRing
from orchestrator.keys.store import SQLiteKeyStore
from tests.orchestrator.keys.test_accounts import Clock


def test_new_keys_work_at_once_and_guessing_keeps_no_file_busy(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.sqlite", Clock()
    with closing(SQLiteKeyStore(path)) as read, closing(SQLiteKeyStore(path)) as written:
        ring = KeyRing(read, now=clock, clock=clock)
        assert not ring.is_needed
        assert ring.find("ck-guessed") is None
        key, secret = new_key("ann", now=clock.now)
        written.add(key)
        assert ring.find(secret) is None  # it has just looked
        clock.now += 0.11
        assert ring.find(secret) == key
        assert ring.is_needed


def test_a_revoked_key_stops_at_the_next_look_and_what_it_pays_goes_on(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.sqlite", Clock()
    with closing(SQLiteKeyStore(path)) as read, closing(SQLiteKeyStore(path)) as written:
        key, secret = new_key("ann", now=clock.now)
        written.add(key)
        ring = KeyRing(read, now=clock, clock=clock)
        written.revoke("ann", now=clock.now)
        assert ring.find(secret) == key
        ring.look()
        assert ring.find(secret) is None
        assert ring.of_id(key.key_id) is not None
        assert ring.is_needed
