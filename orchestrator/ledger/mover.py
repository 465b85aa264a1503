"""The process that moves rows from a server's spool into its ledger, off the requests' path.

A process and not a thread: SQLite lets go of Python's lock at every row and would have to win it
back from the requests each time. It is told by lines on its standard input (``take PATH``: move
from this spool, after all of the last one; ``look``: there is more; ``settle``: say when all is
moved), and ends when that is closed, by intent or because the server died.
"""

from __future__ import annotations

import logging
import os
import select
import sqlite3
import sys
import time
from pathlib import Path

from experts.sqlite_file import open_private
from orchestrator.ledger import spool
from orchestrator.ledger.schema import prepare

GATHER_S = 0.05
"""After a first row, for others to move with it."""
_AGAIN_S = 1.0
"""After the ledger could not be written: somebody else has it, the disk is full."""
_NICE = 10
"""Requests go first: what is in the spool is safe."""
_STDIN, _STDOUT = 0, 1

log = logging.getLogger(__name__)


class _Mover:
    def __init__(self, ledger: Path) -> None:
        self._db = open_private(ledger, prepare, use="as a ledger")
        self._path: Path | None = None
        self._unread = b""
        self._is_open = True

    def run(self) -> None:
        while self._is_open:
            told = self._told()
            if told and set(told) == {"look"}:
                told += self._told(within_s=GATHER_S)
            for line in told:
                if line.startswith("take "):
                    self._end()
                    self._path = Path(line.removeprefix("take "))
            self._move()
            for _ in range(told.count("settle")):
                os.write(_STDOUT, b"settled\n")
        self._end()
        self._db.close()

    def _told(self, *, within_s: float | None = None) -> list[str]:
        """Lines; none where nothing comes within that time, or nothing will come any more."""
        if not select.select([_STDIN], [], [], within_s)[0]:
            return []
        data = os.read(_STDIN, 1 << 16)
        self._is_open = bool(data)
        *lines, self._unread = (self._unread + data).split(b"\n")
        told = [os.fsdecode(line) for line in lines]
        if within_s is not None and set(told) == {"look"}:  # the wait is not over for that
            time.sleep(within_s)
        return told

    def _move(self) -> None:
        while self._path is not None:
            try:
                spool.move(self._db, self._path)
                return
            except FileNotFoundError:  # the server died, and somebody else has moved it all
                return
            except sqlite3.OperationalError as error:
                log.warning("%s: %s; trying again", self._path, error)
                time.sleep(_AGAIN_S)

    def _end(self) -> None:
        """With the spool at hand, which nobody writes any more."""
        if self._path is not None:
            self._move()
            self._path.unlink(missing_ok=True)
            self._path = None


if __name__ == "__main__":
    os.nice(_NICE)
    _Mover(Path(sys.argv[1])).run()
