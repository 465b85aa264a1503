"""``kill -9`` of a durable run at random moments: the same answer, each call once in the ledger.

A run of ten calls in eight steps on the bundled experts, in which every step is asked about what
the last one said. It is followed once without a kill; then again and again from the beginning, each
time in a process of its own that is killed at a moment drawn from the time that the calls take (and
a little more). Another process goes on to the end, unless the first was quicker than its kill: then
the moment is drawn anew.

Looked at in the end: the answer, that the ledger has each call once, and that the list of runs says
so. Answers that were lost between an expert and the ledger are counted; they may be paid twice, and
that nobody can prevent.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from experts.errors import ExpertFailure
from experts.values import Arm, Completion, Message, Query
from orchestrator.aggregators import agreed
from orchestrator.answer import no_answer
from orchestrator.conclave import Conclave
from orchestrator.config import Config
from orchestrator.decision import Decision
from orchestrator.drivers.run import Recall, Run
from orchestrator.ledger import Ledger
from orchestrator.queries import make_query
from orchestrator.runs.runs import Runs
from orchestrator.runs.views import RunList, RunView
from orchestrator.strategies.asking import ask
from orchestrator.strategies.base import Steps

STAGES = (
    ("words",),
    ("generalist",),
    ("lists",),
    ("words", "generalist"),
    ("logic",),
    ("units", "units"),
    ("arithmetic",),
    ("words",),
)
"""Whom the run asks, step by step."""
N_CALLS = sum(map(len, STAGES))
QUESTION = "Reverse the word planet."
_BEFORE_S, _AFTER_S = 0.05, 0.02
"""Moments are drawn from a little before the first call to a little after the last."""
_MOST_TRIES = 20
_LIBRARIES = (
    "langgraph.checkpoint.sqlite.aio",
    "langgraph.func",
    "torch",
    "transformers.models.llama.modeling_llama",
)
"""That a process need not import when it is about to be killed: the kill should hit the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KilledRun:
    """One run, killed and gone on with."""

    at_s: float
    """When it was killed, since its process was ready to begin."""
    n_before: int
    """Calls that had come back by then."""
    n_lost: int
    """Calls that were under way, and were made again."""
    recovery_s: float
    """What going on to the end took the next process, its start not counted."""
    same_answer: bool
    each_call_once: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RunsReport:
    """All of them."""

    n_calls: int
    seconds_unkilled: float
    killed: list[KilledRun]
    problems: list[str]

    @property
    def is_kept(self) -> bool:
        return not self.problems


def run_bench(
    n: int, *, seed: int = 0, tell: Callable[[str], None] = lambda what: None
) -> RunsReport:
    """Kill ``n`` runs. Raises ExpertFailure when a run is never caught alive."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *_LIBRARIES])
    rng = Random(seed)
    with tempfile.TemporaryDirectory(prefix="conclave-runs-") as name:
        folder = Path(name)
        tell("one run without a kill")
        run_id = _begin(folder / "whole")
        child = _started(context, folder / "whole", run_id)
        began = time.monotonic()
        child.join()
        seconds = time.monotonic() - began
        expected = _view(folder / "whole", run_id)
        killed, problems = [], _problems("without a kill", expected, expected)
        for i in range(n):
            tell(f"kill {i + 1} of {n}")
            one, found = _killed(context, folder / str(i), rng, seconds, expected)
            killed.append(one)
            problems += [f"kill {i + 1}, at {one.at_s:.3f} s: {problem}" for problem in found]
    return RunsReport(n_calls=N_CALLS, seconds_unkilled=seconds, killed=killed, problems=problems)


def _killed(
    context: Any, folder: Path, rng: Random, seconds: float, expected: RunView
) -> tuple[KilledRun, list[str]]:
    for attempt in range(_MOST_TRIES):
        place = folder / str(attempt)
        run_id = _begin(place)
        # The whole run may have been held up for long, by whatever else the machine does.
        at_s = rng.uniform(0, (_BEFORE_S + seconds + _AFTER_S) / 2 ** (attempt // 2))
        child = _started(context, place, run_id)
        child.join(at_s)
        if child.exitcode is not None:
            continue  # it was quicker
        child.kill()
        child.join()
        before = _view(place, run_id)
        began = time.monotonic()
        with _opened(place) as runs:
            after = asyncio.run(runs.go_on(run_id))
        one = KilledRun(
            at_s=at_s,
            n_before=sum(c.completion is not None for c in before.calls),
            n_lost=after.lost.n_calls,
            recovery_s=time.monotonic() - began,
            same_answer=_said(after) == _said(expected),
            each_call_once=_times(after) == Counter(range(N_CALLS)),
        )
        return one, _problems("after it", after, expected)
    raise ExpertFailure(f"The run came to its end before its kill, {_MOST_TRIES} times in a row.")


def _problems(when: str, view: RunView, expected: RunView) -> list[str]:
    problems = []
    if view.state != "done":
        problems.append(f"{when} the run is {view.state}: {view.row.problem}")
    if _said(view) != _said(expected):
        problems.append(f"{when} it says {_said(view)}, not {_said(expected)}")
    if (times := _times(view)) != Counter(range(N_CALLS)):
        problems.append(f"{when} the ledger has calls so often: {dict(times)}")
    return problems


def _said(view: RunView) -> Any:
    """The answer without its price: another process may have to load an expert once more."""
    return {k: v for k, v in (view.row.answer or {}).items() if k != "cost_usd"}


def _times(view: RunView) -> Counter[int]:
    """How often the ledger has a bill for each call."""
    return Counter(c.seq for c in view.calls if c.completion is not None)


def _started(context: Any, folder: Path, run_id: str) -> Any:
    """A process that has loaded its experts, and begins when this returns."""
    ours, theirs = context.Pipe()
    child = context.Process(target=_work, args=(folder, run_id, theirs))
    child.start()
    theirs.close()
    if ours.recv() != "ready":
        raise ExpertFailure("The process did not start.")
    ours.send("go")
    return child


def _work(folder: Path, run_id: str, pipe: Connection) -> None:
    """What the process does that is killed."""
    with _opened(folder) as runs:
        asyncio.run(_load(runs))
        pipe.send("ready")
        pipe.recv()
        asyncio.run(runs.go_on(run_id))


async def _load(runs: Runs) -> None:
    """So that moments fall into calls, and not into what comes before the first."""
    for name in sorted({name for stage in STAGES for name in stage}):
        await runs.conclave.experts[name].load()  # type: ignore[attr-defined]


def _begin(folder: Path) -> str:
    with _opened(folder) as runs:
        config = Config(data_dir=folder)
        query = make_query(config, "generalist", (Message(role="user", content=QUESTION),))
        return runs.start(query, "generalist")


def _view(folder: Path, run_id: str) -> RunView:
    config = Config(data_dir=folder)
    with Ledger(config.ledger_path) as ledger, RunList(ledger, config) as runs:
        return runs.view(run_id)


@contextmanager
def _opened(folder: Path) -> Iterator[Runs]:
    config = Config(data_dir=folder)
    with (
        Ledger(config.ledger_path) as ledger,
        Runs(_Relaying.from_config(config, ledger=ledger), config) as runs,
    ):
        yield runs


class _Relaying(Conclave):
    """Whatever is asked goes through the ten calls."""

    def run_of(
        self, decision: Decision, recall: Recall | None = None, *, keywords_first: bool = True
    ) -> Run:
        return Run(_relay(decision.query, STAGES), decision.query.limits, self.pool)


def _relay(query: Query, stages: Sequence[Sequence[str]]) -> Steps:
    said, history = query.text, list[Completion]()
    completions: Sequence[Completion] = ()
    for number, stage in enumerate(stages):
        message = Message(role="user", content=said)
        calls = [
            replace(ask(query, Arm(name), sample=10 * number + i), messages=(message,))
            for i, name in enumerate(stage)
        ]
        completions = yield calls
        history += completions
        # Nonsense to these experts, and therefore theirs alone: no other way leads to it.
        said = f"{query.text} {' '.join(c.text for c in completions if c.ok)}"[:120]
    last = [c for c in completions if c.ok]
    answer = agreed(last, None) if last else no_answer("the last step failed")
    return answer.with_history(tuple(history))
