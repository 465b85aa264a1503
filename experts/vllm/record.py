"""What swaps took: every one is written down, and what the next will take is read off them.

One line of JSON a swap, so that the next start of Conclave knows what the last one measured. Failed
ways are kept, too; they say nothing about seconds. A file that has grown large becomes the previous
one, in the place of that before it.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Literal

log = logging.getLogger(__name__)

Way = Literal["adapter", "in_place", "wake", "restart"]
"""How a model gets into an engine, cheapest first."""

N_REMEMBERED = 20
"""Swaps of one kind that an expectation rests on: the machine's load changes by the hour."""
N_KEPT = 1000
"""Swaps that a run can look back on: a server runs for months."""
MAX_BYTES = 1 << 20
"""Of each of the two files: some four thousand swaps."""
BYTES_PER_S = {"slot": 20e9, "host": 8e9, "disk": 1e9}
"""Where nothing is measured: PCIe 4 x16 in practice, and an ordinary NVMe disk."""
FIXED_S: dict[Way, float] = {"adapter": 0.05, "in_place": 0.2, "wake": 1.0, "restart": 40.0}
"""Where nothing is measured: what a swap takes besides moving bytes. A restart of vLLM 0.32 took 15
to 50 s on two cores, and an in-place reload 0.1 s with its checks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Swap:
    """One way that was tried."""

    way: Way
    slot: str
    model: str
    before: str | None
    """The base that the slot held; None when it held none."""
    seconds: float
    ok: bool
    n_bytes: int
    tier: str = "disk"
    """Where the weights were."""
    error: str = ""
    at_s: float = 0.0
    """Seconds since 1970."""


class SwapRecord:
    """Swaps of this run and, with a ``path``, of those before."""

    def __init__(self, path: Path | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        self.path, self._max_bytes = path, max_bytes
        self.swaps: deque[Swap] = deque(maxlen=N_KEPT)
        """The latest of this run, in order."""
        self._took: dict[tuple[str, ...], deque[float]] = {}
        if path is not None:
            self._read(self._previous(path))
            self._read(path)

    def add(self, swap: Swap) -> None:
        self.swaps.append(swap)
        self._learn(swap)
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size > self._max_bytes:
                self.path.replace(self._previous(self.path))
            with self.path.open("a+b") as file:
                line = json.dumps(asdict(swap)) + "\n"
                # Who was killed in the middle of a line must not take this one along.
                file.write(("\n" if _is_torn(file) else "").encode() + line.encode())
        except OSError as error:  # a full disk: what was measured is still known to this run
            log.warning("swap not recorded in %s: %s", self.path, error)

    def keep_all(self) -> None:
        """From now on ``swaps`` forgets none: for a run that ends soon, and counts them."""
        self.swaps = deque(self.swaps)

    def expected_s(self, way: Way, model: str, n_bytes: int, tier: str) -> float:
        """Seconds: the median of this model's latest swaps this way from this tier; else of all
        models' (their sizes are of one order in most pools); else a guess from bytes."""
        for key in ((way, tier, model), (way, tier)):
            if took := self._took.get(key):
                return statistics.median(took)
        return FIXED_S[way] + n_bytes / BYTES_PER_S[tier]

    def seconds(self, way: Way) -> Sequence[float]:
        """Of the latest swaps of this run, those that succeeded this way, in order."""
        return [s.seconds for s in list(self.swaps) if s.way == way and s.ok]

    def _learn(self, swap: Swap) -> None:
        if swap.ok:
            for key in ((swap.way, swap.tier, swap.model), (swap.way, swap.tier)):
                self._took.setdefault(key, deque(maxlen=N_REMEMBERED)).append(swap.seconds)

    @staticmethod
    def _previous(path: Path) -> Path:
        return path.with_suffix(f".previous{path.suffix}")

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                self._learn(Swap(**json.loads(line)))
            except (ValueError, TypeError):  # cut off when the disk was full, or we were killed
                log.warning("%s: a line that is no swap is passed over: %.60r", path, line)


def _is_torn(file: BinaryIO) -> bool:
    """Whether its last line has no end."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
