"""Keys in a file of SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.keys.store import SQLiteKeyStore
from tests.orchestrator.keys.contract import KeyStoreContract, Stores


class TestSQLiteKeyStore(KeyStoreContract):
    @pytest.fixture
    def stores(self, tmp_path: Path) -> Iterator[Stores]:
        path = tmp_path / "keys.sqlite"
        with closing(SQLiteKeyStore(path)) as one, closing(SQLiteKeyStore(path)) as other:
            yield one, other


def test_nobody_else_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite"
    with closing(SQLiteKeyStore(path)):
        assert path.stat().st_mode & 0o077 == 0
