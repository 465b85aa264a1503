"""The answers file: appended in whole lines, made sure of block by block, repaired after a kill."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from experts.errors import DataError, UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class AnswersFile:
    """One JSON object a line. Only whole lines are ever left in it, whatever happens."""

    def __init__(self, path: Path) -> None:
        """Creates the file if there is none."""
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._end = os.fstat(self._fd).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Records with their line numbers, from 1. When all are read, what a killed process or a
        machine that lost power left after the last whole one is cut off.

        Raises DataError for a line before the last that is no record: no kill makes one.
        """
        whole = 0
        broken: int | None = None
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            for number, line in enumerate(file, 1):
                record = _record(line)
                if record is None:
                    broken = broken or number
                    continue
                if broken:
                    raise DataError(
                        f"{self.path}, line {broken}: it is no answer, and answers follow it, so "
                        "something else has written there. Take it out, or name another --out."
                    )
                whole += len(line)
                yield number, record
        if whole < self._end:
            os.ftruncate(self._fd, whole)
            self._end = whole

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Write records, and return when they are on the disk.

        Raises UserError when they cannot be written; the file then is as it was before.
        """
        data = b"".join(json.dumps(record, allow_nan=False).encode() + b"\n" for record in records)
        try:
            _write_all(self._fd, data)
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, self._end)
            raise UserError(cannot_write(self.path, error)) from None
        self._end += len(data)


def cannot_write(path: Path, error: OSError) -> str:
    """What to do about it."""
    what = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
    return (
        f"{path} cannot be written: {what}. Nothing is lost: make room or mend it, then run the "
        "same command again. It goes on where it stopped and pays for nothing twice."
    )


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a disk that fills takes a part first
        view = view[os.write(fd, view) :]


def _record(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
