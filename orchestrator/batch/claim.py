"""Whose answers file it is: a small file beside it, locked by the process that is at work.

It names the batch. All of a batch's queries have ids in the ledger that begin with its name, so the
next process finds what the last one paid; a new batch of the same questions pays anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from experts.errors import UserError
from experts.ids import new_id

_LOOKED_AT_BYTES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class _Named:
    batch: str
    model: str
    """For lines that name none: with another one, they would ask something else."""


class Claim:
    """The right to write an answers file; given back when closed, or when the process is gone."""

    def __init__(self, out: Path, *, model: str) -> None:
        """Raises UserError when another process has it, when the answers there are of another
        model, when nobody knows what they are, or when the file beside them is something else."""
        import fcntl

        self.path = claim_path(out)
        has_answers = out.exists() and out.stat().st_size > 0
        if has_answers and not self.path.exists():
            raise UserError(_not_ours(out, self.path))
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"Another process is writing {out}. Wait for it, or name another --out."
                ) from None
            named = _read(self.path)
            if named is None and has_answers:
                raise UserError(_not_ours(out, self.path))
            if named is None and _holds_something(self._fd):
                raise UserError(
                    f"{self.path} would say of which batch the answers are, and something else is "
                    "in it. Move it away, or name another --out."
                )
            if named is None or not out.exists():
                named = _Named(batch=new_id("b"), model=model)
                _write(self._fd, named)
            elif named.model != model and not has_answers:
                # What was never answered binds nobody; what was paid for keeps its name.
                named = _Named(batch=named.batch, model=model)
                _write(self._fd, named)
            elif named.model != model:
                raise UserError(
                    f"{out} was begun with --model {named.model}, so lines that name no model were "
                    f"asked of that. Go on with it, or name another --out for {model}."
                )
        except BaseException:
            os.close(self._fd)
            raise
        self.batch = named.batch
        """The batch's name, the beginning of all its queries' ids."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)


def claim_path(out: Path) -> Path:
    """Of the file beside the answers that says whose they are."""
    return out.with_name(f"{out.name}.batch")


def _not_ours(out: Path, beside: Path) -> str:
    return (
        f"{out} exists, and there is no {beside.name} beside it that says of which batch its lines "
        "are. Move it away, or name another --out."
    )


def _read(path: Path) -> _Named | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return _Named(batch=str(found["batch"]), model=str(found["model"]))
    except (ValueError, KeyError, TypeError):
        return None


def _holds_something(fd: int) -> bool:
    """Beyond what a process that was killed, or a machine that lost power, may leave."""
    return any(os.pread(fd, _LOOKED_AT_BYTES, 0).strip(b"\0\n"))


def _write(fd: int, named: _Named) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{json.dumps(asdict(named))}\n".encode(), 0)
    os.fsync(fd)
