"""The errors file: what has no answer and why, told anew by every process.

What another run has told is obsolete and is taken away; what something else has written there is
not ours to take.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from experts.errors import DataError, UserError
from orchestrator.batch.answers import cannot_write

_BEGINNINGS = (b'{"line": ', b'{"id": "batch_req_')
_OF_A_LOST_BLOCK = b"\0\n"
"""That a machine which lost power may leave."""
_LONGEST_BYTES = 1 << 20


class ErrorsFile:
    """One JSON object a line; there is no file where there is nothing to tell."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file:
            self._file.close()

    def clear(self) -> None:
        """Take away what the last process told. Raises DataError when it is something else."""
        check_errors_file(self.path)
        self.path.unlink(missing_ok=True)

    def tell(self, record: dict[str, Any]) -> None:
        """Raises UserError when it cannot be written."""
        try:
            self._file = self._file or self.path.open("w", encoding="utf-8")
            self._file.write(f"{json.dumps(record, ensure_ascii=False)}\n")
            self._file.flush()
        except OSError as error:
            raise UserError(cannot_write(self.path, error)) from None


def errors_path(out: Path) -> Path:
    """Of an answers file: ``answers.jsonl`` has ``answers.errors.jsonl``."""
    return out.with_name(f"{out.stem}.errors{out.suffix}")


def check_errors_file(path: Path) -> None:
    """Raises DataError for what is no file, or has a line that no batch has told."""
    if not path.exists():
        return
    advice = "Move it away, or name another --out."
    if not path.is_file():
        raise DataError(f"{path} is where errors are told of, and it is no file. {advice}")
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_BYTES), b""), 1):
            if not (_is_told(line) if line.endswith(b"\n") else _may_be_torn(line)):
                raise DataError(
                    f"{path} would be replaced by what has no answer, and line {number} of it is "
                    f"not of a batch. {advice}"
                )


def _is_told(line: bytes) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return not line.strip(_OF_A_LOST_BLOCK)
    return (
        isinstance(found, dict)
        and isinstance(found.get("line"), int)
        and isinstance(found.get("error") or found.get("response"), dict)
    )


def _may_be_torn(line: bytes) -> bool:
    """A record of which a process that was killed wrote the beginning."""
    begun = [line.startswith(b) or b.startswith(line) for b in _BEGINNINGS]
    return any(begun) or not line.strip(_OF_A_LOST_BLOCK)
