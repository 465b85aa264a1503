"""Files that people pass on: written whole or not at all, and checked before the long run."""

from __future__ import annotations

from pathlib import Path

from experts.errors import DataError


def check_target(path: Path, *, example: str) -> None:
    """Raises DataError where nothing could be written; ``example``: a name that would do."""
    if path.is_dir():
        raise DataError(f"{path} is a folder. Name the file to write in it: {path / example}.")
    if not path.absolute().parent.is_dir():
        raise DataError(f"There is no folder {path.absolute().parent} to write {path.name} in.")
    beside = _beside(path)
    try:
        beside.touch()  # rights do not tell: root has them all, and /proc takes nothing
        beside.unlink()
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from None


def write_whole(path: Path, text: str) -> None:
    """In the place of what is there."""
    beside = _beside(path)
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
