"""``kill -9`` at random moments, and what becomes of the queries that were under way.

A batch (``conclave batch run``) and then a server (``conclave serve``) answer questions on the
bundled experts while their processes, and with vLLM the engines under them, are killed at moments
that a seed draws. A killed process is started again with the same command. Clients of the server
send again what they have no answer to, with the same ``Idempotency-Key``.

What is promised, and looked at in the end: every query is answered exactly once, as it is when
nothing is killed (greedy); the ledger holds one bill for each, and no process is left. Engines note
what they are given, so that a call which was made twice and billed once is seen, too.

When kills come is ``kills_moments``'s business.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from eval.benchmarks.kills_batches import problems_of_batch, read_lines, write_lines
from eval.benchmarks.kills_calls import calls_in, problems_of_calls
from eval.benchmarks.kills_clients import Clients
from eval.benchmarks.kills_moments import Kill, Killer, Kind
from eval.benchmarks.kills_processes import Processes, command
from eval.benchmarks.kills_work import (
    CONCURRENCY,
    N_SLOTS,
    batch_questions,
    free_port,
    write_config,
)
from experts.errors import ExpertFailure

Tell = Callable[[str], None]
_POLL_S = 0.03
_END_S = 30.0
"""For what was killed to be gone."""
_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class KillsReport:
    """All of it."""

    n_queries: int
    """Of batches."""
    n_requests: int
    """To the server."""
    n_broken: int
    """Times that a client lost its connection, or was told to come again."""
    n_begun: int
    """Calls that engines were given while there were kills; 0 where there are no engines ..."""
    n_ended: int
    """... and that they answered in full."""
    kills: list[Kill]
    seconds: float
    promises: dict[str, bool]
    problems: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class KillsSize:
    """How much is done."""

    n_kills: int = 20
    n_queries: int = 800
    """Of a batch."""
    starting_s: float = 20.0
    """Moments while something starts are drawn within so many seconds."""
    max_s: float = 1200.0
    """No kill after that; what is under way goes on to its end."""


def run_bench(
    size: KillsSize,
    *,
    python: Path | None = None,
    seed: int = 0,
    tell: Tell = lambda what: None,
) -> KillsReport:
    """python: of an environment with vLLM; None asks the bundled experts in process, and there are
    no engines to kill. Raises ExpertFailure when nothing is answered for ten minutes."""
    with tempfile.TemporaryDirectory(prefix="conclave-kills-") as folder:
        return _Bench(Path(folder), size, python, Random(seed), tell).run(seed)


class _Bench:
    """See the module."""

    def __init__(
        self, folder: Path, size: KillsSize, python: Path | None, rng: Random, tell: Tell
    ) -> None:
        self._folder, self._size, self._python, self._tell = folder, size, python, tell
        self._processes = Processes(folder)
        self._killer = Killer(self._processes, rng)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = time.monotonic()
        self._problems: list[str] = []

    def run(self, seed: int) -> KillsReport:
        questions = batch_questions(self._size.n_queries, seed)
        write_lines(self._folder / "queries.jsonl", questions)
        try:
            self._tell("a batch without kills")
            expected = self._undisturbed()
            n_batches = self._batches(questions, expected)
            clients = self._served(questions, expected)
        finally:
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
                self._process.wait()
        self._problems += [f"it still runs: {said}" for said in self._left()]
        calls = self._calls("data")
        self._problems += self._problems_of_calls(n_batches * len(questions) + len(clients.answers))
        return KillsReport(
            n_queries=n_batches * len(questions),
            n_requests=len(clients.answers),
            n_broken=clients.n_broken,
            n_begun=calls["begun"],
            n_ended=calls["ended"],
            kills=self._killer.kills,
            seconds=time.monotonic() - self._started_s,
            promises={
                "every kill was made, and answers came after it": len(self._killer.kills)
                == self._size.n_kills,
                "everything answered once, billed once, as without kills; nothing left": not (
                    self._problems
                ),
            },
            problems=self._problems[:_SHOWN],
        )

    def _calls(self, data: str) -> Counter[str]:
        return calls_in(self._folder / f"{data}.calls")

    def _problems_of_calls(self, n_answers: int) -> list[str]:
        if self._python is None:
            return []
        n_engines = sum(kill.kind == "engine" for kill in self._killer.kills)
        return [
            *problems_of_calls("undisturbed", self._calls("quiet"), self._size.n_queries),
            *problems_of_calls(
                "with kills",
                self._calls("data"),
                n_answers,
                n_excused=(len(self._killer.kills) - n_engines) * N_SLOTS * CONCURRENCY,
                n_unnoted=n_engines * CONCURRENCY,
            ),
        ]

    @property
    def _is_late(self) -> bool:
        return time.monotonic() - self._started_s > self._size.max_s

    def _kinds(self, part: Kind) -> list[Kind]:
        """Half of the kills are in batches, half in the server; with vLLM, every other one is of an
        engine."""
        n = self._size.n_kills
        n_here = (n + 1) // 2 if part == "batch" else n // 2
        return ["engine" if self._python and i % 2 else part for i in range(n_here)]

    # Batches

    def _undisturbed(self) -> dict[str, str]:
        """Texts by id; with books of its own, so that nothing can be recalled from them."""
        self._process = self._batch("quiet")
        self._ended_well()
        return {r["id"]: r["text"] for r in read_lines(self._folder / "quiet.jsonl")}

    def _batch(self, name: str, data: str = "quiet") -> subprocess.Popen[bytes]:
        config = write_config(self._folder, data, self._python)
        return command(
            *("batch", "run", "queries.jsonl", "--json", "--out", f"{name}.jsonl"),
            *("--config", str(config)),
            folder=self._folder,
            log=self._folder / "log",
        )

    def _batches(self, questions: Sequence[Mapping[str, str]], expected: Mapping[str, str]) -> int:
        """One after the other until all kills are made; how many there were."""
        killer, n = self._killer, 0
        killer.add(self._kinds("batch"), self._size.starting_s)
        while killer.dues and not self._is_late:
            n += 1
            self._tell(f"batch {n}, {len(killer.dues)} kills to make")
            out = self._folder / f"batch{n}.jsonl"
            self._process = self._batch(out.stem, "data")
            killer.began(0)
            while self._process.poll() is None:
                if killer.tick(self._process, _size(out)):
                    self._process.wait()
                    self._process = self._batch(out.stem, "data")
                    killer.began(_size(out))
                time.sleep(_POLL_S)
            self._ended_well()
            killer.tick(self._process, _size(out))
            self._problems += problems_of_batch(out, questions, expected, self._ledger)
        return n

    @property
    def _ledger(self) -> Path:
        return self._folder / "data" / "ledger.sqlite"

    def _ended_well(self) -> None:
        assert self._process is not None  # noqa: S101
        if self._process.wait() != 0:
            raise ExpertFailure(f"A batch ended with {self._process.returncode}: {self._said()}")

    def _said(self) -> str:
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:]

    # The server

    def _served(
        self, questions: Sequence[Mapping[str, str]], expected: Mapping[str, str]
    ) -> Clients:
        port, killer = free_port(), self._killer
        clients = Clients(questions, port)
        killer.add(self._kinds("server"), self._size.starting_s)
        self._tell(f"server, {len(killer.dues)} kills to make")
        self._process = self._serve(port)
        killer.began(0)
        with clients.asking():
            while not killer.is_done and not self._is_late:
                if killer.tick(self._process, len(clients.answers)):
                    self._process.wait()
                    self._process = self._serve(port)
                    killer.began(len(clients.answers))
                elif self._process.poll() is not None:
                    raise ExpertFailure(f"The server ended by itself: {self._said()}")
                time.sleep(_POLL_S)
        clients.check(expected, self._ledger)
        self._problems += clients.problems
        self._process.terminate()
        self._process.wait(_END_S)
        return clients

    def _serve(self, port: int) -> subprocess.Popen[bytes]:
        config = write_config(self._folder, "data", self._python)
        return command(
            *("serve", "--port", str(port), "--config", str(config)),
            folder=self._folder,
            log=self._folder / "log",
        )

    def _left(self) -> list[str]:
        """What still runs of all that was started, after a while."""
        end_s = time.monotonic() + _END_S
        while (left := self._processes.left()) and time.monotonic() < end_s:
            time.sleep(_POLL_S)
        return left


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
