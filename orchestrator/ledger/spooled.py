"""A ledger whose requests' rows go through a spool: a write to a file, and not a transaction.

For servers. What was written outlives the process from the moment that ``record`` returns, as it
does with a transaction (in neither case a loss of power within the last moments); it is in the
ledger's tables a moment later. Whatever is read or changed here waits for that moment, so nobody
who asks this object can tell.
"""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from experts.values import Query
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.mover import GATHER_S
from orchestrator.ledger.rows import query_row
from orchestrator.ledger.spool import Rows, begin_spool, line_of

log = logging.getLogger(__name__)

_FILE_BYTES = 64 << 20
"""After which a new file is begun."""
_END_S = 10.0


class SpooledLedger(Ledger):
    """Safe to use from several threads; one spool a process."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = path
        self._spool_lock = threading.Lock()
        self._settle_lock = threading.Lock()
        self._fd, self._spool = begin_spool(path)
        self._n_bytes = self._n_settled = self._n_file_bytes = 0
        self._is_open = True
        self._looked = 0.0
        self._mover = self._begun()

    def record_decisions(
        self, queries: Sequence[Query], rows: Sequence[Mapping[str, Any]], *, source: str
    ) -> None:
        at = time.time()
        asked = [query_row(query, source) for query in queries]
        self.record({"queries": asked, "decisions": [{**row, "at": at} for row in rows]})

    def record(self, rows: Rows) -> None:
        """Raises OSError where the disk is full; nothing is half written then."""
        line = line_of(rows)
        with self._spool_lock:
            n = os.write(self._fd, line)
            if n < len(line):  # what did not fit must not stand before the next line
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - n)
                raise OSError(errno.ENOSPC, f"no room for {len(line)} bytes", str(self._spool))
            self._n_bytes += n
            self._n_file_bytes += n
            now = time.monotonic()
            if now - self._looked > GATHER_S / 2:
                self._looked = now
                if self._n_file_bytes > _FILE_BYTES:
                    self._begin_file()
                else:
                    self._tell("look")

    def settle(self) -> None:
        with self._settle_lock:
            n_bytes = self._n_bytes
            if n_bytes == self._n_settled:
                return
            while not self._has_settled():  # it died: what it had not moved, the next one moves
                self._renew()
            self._n_settled = n_bytes

    def close(self) -> None:
        """All rows are in the ledger's tables when this returns."""
        with self._settle_lock, self._spool_lock:
            if not self._is_open:
                return
            self._is_open = False
            self._pipe(self._mover.stdin).close()
            try:
                self._mover.wait(_END_S)
            except subprocess.TimeoutExpired:
                log.warning("%s holds rows still; they are moved when it is free", self._spool)
            self._pipe(self._mover.stdout).close()
            os.close(self._fd)
        super().close()

    def _begin_file(self) -> None:
        os.close(self._fd)
        self._fd, self._spool = begin_spool(self._file)
        self._n_file_bytes = 0
        self._tell(f"take {self._spool}")

    def _has_settled(self) -> bool:
        self._tell("settle")
        return bool(self._pipe(self._mover.stdout).readline())

    def _begun(self) -> subprocess.Popen[bytes]:
        mover = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "orchestrator.ledger.mover", str(self._file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for the server, and it still has rows to move
        )
        os.write(self._pipe(mover.stdin).fileno(), b"take %s\n" % os.fsencode(self._spool))
        return mover

    def _tell(self, what: str) -> None:
        """A line, which a pipe takes whole or not at all. Where it dies, nobody listens: who waits
        for it notices, and who does not has written its rows all the same."""
        with suppress(BrokenPipeError):
            os.write(self._pipe(self._mover.stdin).fileno(), os.fsencode(f"{what}\n"))

    def _renew(self) -> None:
        log.error("the process that moves rows into %s ended; another one is begun", self._file)
        with self._spool_lock:
            self._pipe(self._mover.stdin).close()
            self._pipe(self._mover.stdout).close()
            self._mover.wait()
            self._mover = self._begun()

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None  # noqa: S101 (both are asked for)
        return pipe
