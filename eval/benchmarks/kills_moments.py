"""Kills, one after the other, each when its moment has come.

Moments: half are drawn from a start, since starting is most of an engine's life here, and half from
the first answer after it, then of engines that are not starting themselves.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from eval.benchmarks.kills_processes import Processes, Stage, kill
from experts.errors import ExpertFailure

Kind = Literal["engine", "batch", "server"]
_LOOK_S = 1.0
"""For engines to be looked up: what was started must be known in the end."""
_SERVING_S = 1.5
"""Moments after the first answer are drawn within so many seconds."""
_PATIENCE_S = 600.0
"""Without an answer to anybody."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """One."""

    kind: Kind
    victim: str
    """Which process of it."""
    stage: Stage
    at_s: float
    """Since the beginning."""
    recovery_s: float
    """Until the next answer to anybody."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A kill to be made, so long after a start or, if not is_starting, after the first answer."""

    kind: Kind
    is_starting: bool
    after_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Made:
    """A kill that no answer has followed yet."""

    kind: Kind
    victim: str
    stage: Stage
    at_s: float
    n_answers: int


class Killer:
    """Makes the kills, one after the other, each when its moment has come."""

    def __init__(self, processes: Processes, rng: Random) -> None:
        self._processes, self._rng = processes, rng
        self._begun_s = self._now_s = time.monotonic()
        self.dues: list[_Due] = []
        self.kills: list[Kill] = []
        self._made: list[_Made] = []
        self._since_s = self._heard_s = self._looked_s = self._now_s
        self._answered_s: float | None = None
        self._n_answers = 0

    @property
    def is_done(self) -> bool:
        """Nothing is to be killed any more, and all have recovered from what was."""
        return not (self.dues or self._made)

    def add(self, kinds: Sequence[Kind], starting_s: float) -> None:
        for kind in kinds:
            is_starting = self._rng.random() < 0.5
            longest_s = starting_s if is_starting else _SERVING_S
            self.dues.append(_Due(kind, is_starting, self._rng.uniform(0, longest_s)))

    def began(self, n_answers: int) -> None:
        """A process was started now; so many answers there are."""
        self._since_s = self._heard_s = time.monotonic()
        self._answered_s, self._n_answers = None, n_answers
        # What was on its way when the process before was killed is none of this one's answers.
        self._made = [replace(made, n_answers=n_answers) for made in self._made]

    def tick(self, process: subprocess.Popen[bytes], n_answers: int) -> bool:
        """Look at what has come, and kill if it is time. True when the process itself was killed.

        n_answers: any measure of them that grows. Raises ExpertFailure when nobody is answered."""
        self._now_s = time.monotonic()
        self._hear(n_answers)
        if self._now_s - self._looked_s > _LOOK_S:
            self._looked_s = self._now_s
            self._processes.engines()
        if not self.dues or process.poll() is not None:
            return False
        due = self.dues[0]
        begun_s = self._since_s if due.is_starting else self._answered_s
        if begun_s is None or self._now_s - begun_s < due.after_s:
            return False
        return self._kill(due, process, n_answers)

    def _hear(self, n_answers: int) -> None:
        if n_answers > self._n_answers:
            self._n_answers, self._heard_s = n_answers, self._now_s
            self._answered_s = self._answered_s or self._now_s
        elif self._now_s - self._heard_s > _PATIENCE_S:
            raise ExpertFailure(f"Nobody was answered for {_PATIENCE_S:g} s.")
        for made in [m for m in self._made if m.n_answers < n_answers]:
            self._made.remove(made)
            self.kills.append(
                Kill(
                    kind=made.kind,
                    victim=made.victim,
                    stage=made.stage,
                    at_s=made.at_s - self._begun_s,
                    recovery_s=self._now_s - made.at_s,
                )
            )

    def _kill(self, due: _Due, process: subprocess.Popen[bytes], n_answers: int) -> bool:
        kind: Kind = due.kind
        stage: Stage = "starting"
        engines = [(engine, engine.stage()) for engine in self._processes.engines()]
        stages = [s for _, s in engines]
        if kind == "engine":
            fit = [e for e in engines if due.is_starting or e[1] != "starting"]
            if not fit:
                return False  # there will be one
            engine, stage = self._rng.choice(fit)
            core = engine.core
            pid = core if core is not None and self._rng.random() < 0.5 else engine.leader
            victim = "engine core" if pid == core else "API server"
        else:
            pid, victim = process.pid, kind
            if self._answered_s is not None:
                stage = "loading" if "loading" in stages else "serving"
        kill(pid)
        self._now_s = time.monotonic()
        self._made.append(
            _Made(kind=kind, victim=victim, stage=stage, at_s=self._now_s, n_answers=n_answers)
        )
        self.dues.pop(0)
        self._since_s, self._answered_s = self._now_s, None
        return kind != "engine"
