"""A file of SQLite that threads and processes of one machine share, and its owner alone reads."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from experts.errors import UserError

_WAIT_S, _LOOK_AGAIN_S = 30.0, 0.005
"""For others who have the file."""
NAME_ANOTHER = "Move it away, or name another folder under `data_dir:` in conclave.yaml."


def open_private(
    path: Path | str, prepare: Callable[[sqlite3.Connection], object], *, use: str
) -> sqlite3.Connection:
    """Opened, made where there is none; WAL, rows by name. ``:memory:`` is no file. Threads share
    the connection under a lock of their own.

    prepare: makes the tables where there are none. use: as in "cannot be used as a ledger". Raises
    UserError, with the way out, where the file is damaged or the folder cannot be written.
    """
    try:
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
        with ExitStack() as closing_it:
            db = closing_it.enter_context(
                closing(sqlite3.connect(path, check_same_thread=False, timeout=_WAIT_S))
            )
            db.row_factory = sqlite3.Row
            _use_wal(db)
            db.execute("PRAGMA synchronous=NORMAL")
            prepare(db)
            closing_it.pop_all()
    except (sqlite3.DatabaseError, OSError) as error:
        raise UserError(f"{path} cannot be used {use}: {error}. {NAME_ANOTHER}") from None
    return db


def _use_wal(db: sqlite3.Connection) -> None:
    """SQLite does not wait by itself here where others are making the same new file: it reads the
    mode, then wants the file alone, and two who have both read it would wait for ever."""
    until_s = time.monotonic() + _WAIT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > until_s:
                raise
            time.sleep(_LOOK_AGAIN_S)
