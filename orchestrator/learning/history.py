"""Fitted states, old and new, and which one is in use.

Each is a folder below ``fits`` in the data folder, made beside, moved into place whole, and never
changed after. ``fits/current`` names the one in use and is replaced by one rename: whoever reads it
finds the old name or the new one. ``fits/log.jsonl`` says what became of every refit.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experts.errors import NotFitted, UnknownName, UserError
from experts.expert import Pool
from orchestrator.fitted import Fitted


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """A state that is kept."""

    fit_id: str
    folder: Path
    is_current: bool
    report: Mapping[str, Any]


class FitHistory:
    """Of one data folder."""

    def __init__(
        self, data_dir: Path, *, keep: int = 10, clock: Callable[[], float] = time.time
    ) -> None:
        self._data_dir, self._folder = data_dir, data_dir / "fits"
        self._keep, self._clock = keep, clock

    @property
    def current_id(self) -> str | None:
        """None where nothing was fitted."""
        try:
            return (self._folder / "current").read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    @property
    def current_dir(self) -> Path:
        """Of the state in use; the folder of all states, if there is none."""
        return self._folder / (self.current_id or "")

    def fits(self) -> list[Fit]:
        """Oldest first."""
        current = self.current_id
        found = []
        for fit_id in self._ids():
            folder = self._folder / fit_id
            about = json.loads((folder / "fitted.json").read_text(encoding="utf-8"))
            found.append(
                Fit(
                    fit_id=fit_id,
                    folder=folder,
                    is_current=fit_id == current,
                    report=about["report"],
                )
            )
        return found

    def find(self, state_id: str, pool: Pool, embedder: str) -> Fitted | None:
        """A state by its own id, of those that are kept and fit that pool and embedder."""
        for fit_id in reversed(self._ids()):
            try:
                fitted = Fitted.load(self._folder / fit_id, pool, embedder)
            except NotFitted:
                continue
            if fitted.state_id == state_id:
                return fitted
        return None

    def add(self, fitted: Fitted) -> str:
        """Keep a state; it is not yet in use. Returns its id. Of those that are in no use, the
        oldest are dropped."""
        self._folder.mkdir(parents=True, exist_ok=True)
        stamp = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%d-%H%M%S")
        beside = self._folder / f".{stamp}.{os.getpid()}"
        fitted.save(beside)
        # Of all that was saved: two states of the same beliefs may have other aggregators.
        saved = (beside / "fitted.json").read_bytes()
        fit_id = f"{stamp}-{hashlib.blake2b(saved, digest_size=3).hexdigest()}"
        if (self._folder / fit_id).exists():  # the same state in the same second
            shutil.rmtree(beside)
        else:
            beside.rename(self._folder / fit_id)
        self._drop_old(fit_id)
        return fit_id

    def use(self, fit_id: str) -> None:
        """From now on; also by servers that run. Raises UnknownName."""
        if fit_id not in (known := self._ids()):
            raise UnknownName(fit_id, known, what="fit")
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = self._folder / f"current.{os.getpid()}"
        with beside.open("w", encoding="utf-8") as file:
            file.write(f"{fit_id}\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._folder / "current")

    @contextmanager
    def alone(self, *, wait: bool = False) -> Iterator[None]:
        """One at a time makes a state from the one in use, or from the ledger, and puts it to use;
        the lock ends with its process. Raises UserError where another is at it, unless told to
        wait for it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise UserError(
                    f"Another process is fitting in {self._data_dir}. Wait for it: conclave fit "
                    "list"
                ) from None
            file.write(str(os.getpid()))
            file.flush()
            yield

    def note(self, **said: Any) -> None:
        """A line of the log."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": self._clock(), **said}) + "\n")

    def log(self) -> list[dict[str, Any]]:
        """Refits, oldest first. A line that a crash cut off is left out."""
        try:
            lines = (self._folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def _ids(self) -> list[str]:
        below = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(
            p.name for p in below if not p.name.startswith(".") and (p / "fitted.json").is_file()
        )

    def _drop_old(self, new: str) -> None:
        others = [i for i in self._ids() if i not in (self.current_id, new)]
        for fit_id in others[: max(0, len(others) + 2 - self._keep)]:
            shutil.rmtree(self._folder / fit_id, ignore_errors=True)
