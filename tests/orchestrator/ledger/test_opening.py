"""A ledger's file: made once, its owner's alone, refused where it is of another version."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from experts.errors import UserError
from orchestrator.ledger import Ledger
from orchestrator.ledger.schema import VERSION
from tests import pools

N_PROCESSES, N_FILES = 4, 25


def note(path: Path, query_id: str = "q-1") -> None:
    """Open a ledger and write to it."""
    with Ledger(path) as ledger:
        ledger.add_query(pools.query("?", query_id=query_id), source="record")


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()


def schema(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        version = db.execute("PRAGMA user_version").fetchall()
        return [*version, *db.execute("SELECT * FROM sqlite_master").fetchall()]


def note_in_each(folder: Path, who: int, start: Barrier) -> None:
    for i in range(N_FILES):
        start.wait(timeout=60)  # not for ever, if another has failed
        note(folder / str(i), f"q-{who}")


def test_processes_that_open_a_new_file_at_once_make_one_ledger(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    start = processes.Barrier(N_PROCESSES)
    openers = [
        processes.Process(target=note_in_each, args=(tmp_path, who, start), daemon=True)
        for who in range(N_PROCESSES)
    ]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()
    assert [opener.exitcode for opener in openers] == [0] * N_PROCESSES
    for i in range(N_FILES):
        with Ledger(tmp_path / str(i)) as ledger:
            assert len(ledger.rows("SELECT * FROM queries")) == N_PROCESSES


def test_an_empty_file_becomes_a_ledger_and_has_its_version(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.touch()
    note(path)
    with Ledger(path) as ledger:
        assert ledger.rows("PRAGMA user_version") == [{"user_version": VERSION}]
        assert len(ledger.rows("SELECT * FROM queries")) == 1


@pytest.mark.parametrize(
    ("make", "version"),
    [
        (note, VERSION + 1),
        (note, 0),
        (lambda path: change(path, "CREATE TABLE recipes (name TEXT)"), 0),
    ],
    ids=["later", "before versions", "of another program"],
)
def test_tables_of_another_version_are_refused_with_advice_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None], version: int
) -> None:
    path = tmp_path / "ledger.sqlite"
    make(path)
    change(path, f"PRAGMA user_version = {version}")
    before = schema(path)
    with pytest.raises(UserError) as refused:
        Ledger(path)
    said = str(refused.value)
    assert f"{path} was made by another version of Conclave, or by another program" in said
    assert f"of version {version}, and those of this one of {VERSION}. Move it away, or" in said
    assert schema(path) == before


def test_a_file_that_is_no_ledger_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("not a database, at all, really not one")
    with pytest.raises(UserError, match="cannot be used as a ledger"):
        Ledger(path)


def test_others_on_the_machine_cannot_read_it(tmp_path: Path) -> None:
    path = tmp_path / "home" / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.add_query(pools.query("?"), source="record")
        for file in (path.parent, *path.parent.iterdir()):
            assert file.stat().st_mode & 0o077 == 0, file


def test_it_is_kept_on_disk_in_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.add_query(pools.query("?"), source="record")
        assert ledger.rows("PRAGMA journal_mode")[0]["journal_mode"] == "wal"
    with Ledger(path) as ledger:
        assert len(ledger.rows("SELECT * FROM queries")) == 1
