"""Opening other projects' files: which there are, and what is in them, or a DataError that helps.

No format is known here. What the errors have in common is that they name file and line, and that
a file which ends too early is called that.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experts.errors import DataError

HEAD_BYTES = 1 << 16
"""How far into a file its format is looked for."""
MACOS = "__MACOSX/"
"""Where macOS puts its own notes on the files of an archive, under the same names."""
LONGEST_CELL = 1 << 24
"""Characters. The csv module stops at 131,072, which a prompt of several shots exceeds."""


def files_in(path: Path, *patterns: str) -> list[Path]:
    """The file itself, or the files of a folder that match a pattern, in order of their names.

    Raises DataError when there is none.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    found = sorted({p for pattern in patterns for p in path.glob(pattern) if p.is_file()})
    if not found:
        raise DataError(f"{path} holds no file named like {' or '.join(patterns)}.")
    return found


def read_json(path: Path) -> Any:
    """A whole JSON file."""
    return parse_json(path.read_bytes(), str(path))


def parse_json(data: bytes, name: str) -> Any:
    """JSON bytes; ``name`` is what errors call them."""
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{name}, line {error.lineno}: not JSON ({error.msg}). A file that was half written "
            "or half fetched looks like this; fetch it again."
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not UTF-8 text ({error}).") from None


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(where it stands, value) of every line that is not empty."""
    with path.open("rb") as lines:
        for i, line in enumerate(lines, 1):
            if line.strip():
                where = f"{path}, line {i}"
                try:
                    yield where, json.loads(line)
                except ValueError as error:
                    raise DataError(
                        f"{where}: not JSON ({error}). A file that was half written or half "
                        "fetched looks like this; fetch it again."
                    ) from None


def read_csv(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """(where it stands, cells by column) of every row. Lines count as an editor counts them.

    Raises DataError for a column of ``needed`` that is missing, and for a row of another length.
    """
    csv.field_size_limit(LONGEST_CELL)  # of the whole process; there is no other way to say it
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines, strict=True)
        try:
            header = next(rows, [])
            require_columns(header, needed, path)
            for cells in rows:
                where = f"{path}, line {rows.line_num}"
                if len(cells) != len(header):
                    raise DataError(
                        f"{where}: {len(cells)} cells where the first line has {len(header)}. The "
                        "file may have been cut off; fetch it again."
                    )
                yield where, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise DataError(
                f"{path}, line {rows.line_num}: not CSV ({error}). A file that was half written "
                "or half fetched looks like this; fetch it again."
            ) from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text ({error}).") from None


def require_columns(header: Sequence[str], needed: Sequence[str], path: Path) -> None:
    """Raises DataError that names the first missing column and those that there are."""
    for column in needed:
        if column not in header:
            raise DataError(
                f"{path}: the column {column!r} is missing; there are "
                f"{', '.join(map(repr, header[:8])) or 'none'}{', ...' if header[8:] else ''}."
            )


def open_zip(path: Path) -> zipfile.ZipFile:
    """Raises DataError for what is no whole zip archive."""
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        # The list of what is inside stands at the end, so this is also what is cut off.
        raise DataError(
            f"{path} is no zip archive, or only the first part of one; fetch it again."
        ) from None


def read_member(archive: zipfile.ZipFile, name: str, where: str) -> bytes:
    """A file of an archive. Raises DataError when it is damaged."""
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{where} is damaged ({error}); fetch the archive again.") from None


def list_of(value: object, where: str) -> list[Any]:
    """The value, if it is a list. Raises DataError otherwise."""
    if not isinstance(value, list):
        raise DataError(f"{where}: {_short(value)} where a list should be.")
    return value


def record_with(value: object, fields: Sequence[str], where: str) -> Mapping[str, Any]:
    """The value, if it is an object with these fields. Raises DataError otherwise."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: {_short(value)} where an object with {fields[0]!r} should be.")
    for name in fields:
        if name not in value:
            raise DataError(
                f"{where}: the field {name!r} is missing; a record has {', '.join(fields)}."
            )
    return value


def number(value: object, name: str, where: str) -> float | None:
    """A number out of JSON or a CSV cell; None for null, NaN and an empty cell."""
    if value is None or value == "":
        return None
    if value in ("True", "False"):  # as pandas writes them
        return float(value == "True")
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise DataError(f"{where}: {name} is {_short(value)}, not a number.") from None
    return None if math.isnan(result) else result


def known_cost(value: object, name: str, where: str) -> float | None:
    """Dollars; None for 0 and below, which is what sources write for models without a price."""
    cost = number(value, name, where)
    return cost if cost is not None and 0 < cost < math.inf else None


def text(value: object) -> str | None:
    """Text out of JSON; what is neither text nor null as JSON; None for null and empty text."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def head_of(path: Path, *patterns: str) -> str:
    """The first 64 KiB of the file, or of the first in the folder; of a zip's first member.

    For telling formats apart: empty where nothing can be read; no errors.
    """
    try:
        first = files_in(path, *patterns)[0]
        if first.suffix == ".zip":
            with open_zip(first) as archive:
                for name in archive.namelist():
                    if not name.startswith(MACOS):
                        with archive.open(name) as file:
                            return file.read(HEAD_BYTES).decode("utf-8-sig", "replace")
                return ""
        with first.open("rb") as file:
            return file.read(HEAD_BYTES).decode("utf-8-sig", "replace")
    except (DataError, OSError, NotImplementedError, RuntimeError, EOFError, zlib.error):
        return ""


def has_keys(head: str, *keys: str) -> bool:
    """Whether JSON that begins like this uses all these names."""
    return head.lstrip()[:1] in ("{", "[") and all(f'"{key}"' in head for key in keys)


def header_of(head: str) -> list[str]:
    """The columns of a CSV that begins like this."""
    with contextlib.suppress(csv.Error):
        return next(csv.reader(head.splitlines()[:1]), [])
    return []


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
