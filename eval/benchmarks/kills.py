"""``kill -9`` at random moments, and what becomes of the queries that were under way.

A batch (``conclave batch run``) and then a server (``conclave serve``) answer questions on the
bundled experts while their processes, and with vLLM the engines under them, are killed at moments
that a seed draws. A killed process is started again with the same command. Clients of the server
send again what they have no answer to, with the same ``Idempotency-Key``.

What is promised, and looked at in the end: every query is answered exactly once, as it is when
nothing is killed (greedy); the ledger holds one bill for each, and no process is left.

Moments: half are drawn from a start, since starting is most of an engine's life here, and half from
the first answer after it, then of engines that are not starting themselves.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from eval.benchmarks.kills_clients import Clients
from eval.benchmarks.kills_processes import Processes, Stage, command, kill
from eval.questions import lab_questions
from experts.bundled import bundled_models
from experts.errors import ExpertFailure
from experts.lab.questions import skills_of
from orchestrator.ledger import Ledger

Kind = Literal["engine", "batch", "server"]
Tell = Callable[[str], None]
_POLL_S = 0.03
_LOOK_S = 1.0
"""For engines to be looked up: what was started must be known in the end."""
_SERVING_S = 1.5
"""Moments after the first answer are drawn within so many seconds."""
_END_S = 30.0
"""For what was killed to be gone."""
_PATIENCE_S = 600.0
"""Without an answer to anybody."""
_SHOWN = 5


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


@dataclass(frozen=True, kw_only=True, slots=True)
class KillsReport:
    """All of it."""

    n_queries: int
    """Of batches."""
    n_requests: int
    """To the server."""
    n_broken: int
    """Times that a client lost its connection, or was told to come again."""
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


class _Killer:
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


class _Bench:
    """See the module."""

    def __init__(
        self, folder: Path, size: KillsSize, python: Path | None, rng: Random, tell: Tell
    ) -> None:
        self._folder, self._size, self._python, self._tell = folder, size, python, tell
        self._processes = Processes(folder)
        self._killer = _Killer(self._processes, rng)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = time.monotonic()
        self._problems: list[str] = []

    def run(self, seed: int) -> KillsReport:
        questions = _questions(self._size.n_queries, seed)
        _write(self._folder / "queries.jsonl", questions)
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
        return KillsReport(
            n_queries=n_batches * len(questions),
            n_requests=len(clients.answers),
            n_broken=clients.n_broken,
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
        return {r["id"]: r["text"] for r in _read(self._folder / "quiet.jsonl")}

    def _batch(self, name: str, data: str = "quiet") -> subprocess.Popen[bytes]:
        config = _config(self._folder, data, self._python)
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
        port, killer = _free_port(), self._killer
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
        config = _config(self._folder, "data", self._python)
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


def _config(folder: Path, data: str, python: Path | None) -> Path:
    experts: dict[str, Any] = {"kind": "bundled"}
    config: dict[str, Any] = {"data_dir": str(folder / data), "limits": {"timeout_s": 900}}
    if python is not None:
        experts["runs_on"] = "vllm"
        config["vllm"] = {"python": str(python), "slots": [{}, {}], "hang_s": 30}
    path = folder / f"{data}.yaml"
    # JSON is YAML, too.
    path.write_text(json.dumps({**config, "experts": [experts]}), encoding="utf-8")
    return path


def _questions(n: int, seed: int) -> list[dict[str, str]]:
    """As many to each bundled expert, of its own skills, in a drawn order, as lines of a batch."""
    models = bundled_models()
    lines = []
    for model in models:
        skills = [skill.name for skill in skills_of(model.categories)]
        wanted = -(-n // len(models))
        each = -(-wanted // len(skills))
        drawn = lab_questions(each, "val", held_out_wording=False, seed=seed, skills=skills)
        lines += [
            {"id": f"{model.name}-{i}", "question": q.question, "model": model.name}
            for i, q in enumerate(drawn[:wanted])
        ]
    Random(seed).shuffle(lines)
    return lines[:n]


def problems_of_batch(
    out: Path, questions: Sequence[Mapping[str, str]], expected: Mapping[str, str], ledger: Path
) -> list[str]:
    """What is wrong with an answers file and with the ledger's calls for it."""
    problems = []
    records = _read(out)
    times = Counter(r["id"] for r in records)
    if wrong := {q["id"] for q in questions} ^ set(times):
        problems.append(f"{out.name}: {len(wrong)} lost or strange, such as {min(wrong)}")
    if twice := [i for i, n in times.items() if n > 1]:
        problems.append(f"{out.name}: {len(twice)} answered twice, such as {min(twice)}")
    other = [r for r in records if r["text"] != expected.get(r["id"])]
    problems += [
        f"{out.name}: {r['id']} is {r['text']!r}, not {expected.get(r['id'])!r}" for r in other
    ]
    with Ledger(ledger) as books:
        calls = books.completions_of([r["query_id"] for r in records])
    bills = Counter(c.completion.call.query_id for c in calls)
    if len(bills) != len(records) or set(bills.values()) != {1}:
        shown = dict(Counter(bills.values()))
        problems.append(f"{out.name}: {len(records)} answers, queries by number of bills: {shown}")
    told, paid = sum(r["cost_usd"] for r in records), sum(c.completion.cost_usd for c in calls)
    if abs(told - paid) > 1e-9 * max(told, paid):
        problems.append(f"{out.name}: its answers cost {told} $, the ledger says {paid} $")
    return problems


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _write(path: Path, lines: Sequence[Mapping[str, str]]) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
