"""Who puts answers together best: measured on tasks made of recorded answers, not guessed.

Symbolic-MoE's synthetic task (arXiv:2503.05641): of a question, one right answer with its reasons
and two wrong ones, shuffled; each expert is asked to make one answer of them, in the words of the
aggregator ``synthesis``. Who comes to the right one most often is asked to aggregate where a plan
names nobody. Theirs takes an empty text for the right answer where no model had one; here such
questions make no task. Theirs chooses for each benchmark, this for the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experts.equality import canonical
from experts.errors import DataError
from experts.expert import Expert, Pool
from experts.values import Arm, Call, Completion, Query, Sampling
from orchestrator.aggregators.synthesis import synthesis_call
from orchestrator.conclave import Conclave
from orchestrator.config import Config
from orchestrator.drivers.calling import Recorder, call_experts
from orchestrator.evidence import ROOM
from orchestrator.learning.history import FitHistory
from orchestrator.ledger import Ledger, RecordedCall
from orchestrator.pool import make_experts
from orchestrator.seeded import seeded
from orchestrator.states import load_fitted
from orchestrator.strategies.asking import by_success
from routers.intervals import wilson_interval
from skills.embedders import make_embedder

N_WRONG = 2
MIN_TASKS = 10
"""Fewer say nothing: their 95 % interval spans more than half of all there is."""
Likeliest = Callable[[Sequence[Query]], Sequence[Arm]]
"""For each query the arm that is likeliest to be right on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A question with one right and some wrong answers, in the order in which they are shown."""

    query: Query
    chains: tuple[Completion, ...]
    right: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """How an arm did as the one who puts answers together."""

    arm: Arm
    n: int
    n_right: int
    n_failed: int
    """Calls that brought nothing: they count as wrong."""
    error: str | None
    """Of the first that failed."""
    cost_usd: float
    n_chains: int
    """Of what it is shown, its own. It may know them again."""

    @property
    def accuracy(self) -> float:
        return self.n_right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.n_right, self.n)


@dataclass(frozen=True, kw_only=True, slots=True)
class AggregatorFit:
    """What was found."""

    measured: tuple[Measured, ...]
    """Best first; the cheaper one among equals."""
    likeliest: tuple[int, int] | None
    """Right and all, if each task goes to the arm that is likeliest to be right on its question:
    what is done where nobody was measured. None where nothing is fitted."""
    n_tasks: int
    without_outcomes: tuple[str, ...]
    """Arms that have no graded outcome, so none of the texts is theirs."""
    left_out: tuple[str, ...]
    """Arms that were not asked, because the budget did not last."""

    @property
    def best(self) -> Arm | None:
        """None where nobody came to a right answer."""
        first = self.measured[0] if self.measured else None
        return first.arm if first and first.n_right else None

    @property
    def cost_usd(self) -> float:
        return sum(m.cost_usd for m in self.measured)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else is to be known."""
        told = [
            f"{arm}: no graded outcomes, so none of the texts is its own"
            for arm in self.without_outcomes
        ]
        told += [f"{arm}: not asked, the budget might not have lasted" for arm in self.left_out]
        told += [
            f"{m.arm}: {m.n_failed} of {m.n} calls failed ({m.error})"
            for m in self.measured
            if m.n_failed
        ]
        if self.best is None:
            told.append("nobody came to a right answer: nothing is written")
        return tuple(told)

    def report(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "best": str(self.best) if self.best else None,
            "n_tasks": self.n_tasks,
            "cost_usd": self.cost_usd,
            "likeliest": self.likeliest and {"n_right": self.likeliest[0], "n": self.likeliest[1]},
            "arms": [
                {
                    "arm": str(m.arm),
                    "n": m.n,
                    "n_right": m.n_right,
                    "n_failed": m.n_failed,
                    "accuracy": round(m.accuracy, 4),
                    "ci": [round(x, 4) for x in m.interval],
                    "cost_usd": m.cost_usd,
                    "n_chains": m.n_chains,
                }
                for m in self.measured
            ],
            "notes": list(self.notes),
        }


def synthetic_tasks(
    calls: Sequence[RecordedCall], *, n: int, seed: int, max_tokens: int = ROOM
) -> list[Task]:
    """At most ``n`` tasks of graded outcomes, drawn by ``seed``; those marked as test are left
    alone. A wrong answer is one that was graded 0 and is not equal to the right one."""
    by_query: dict[str, list[RecordedCall]] = {}
    for call in calls:
        said = call.completion
        if call.split != "test" and call.score is not None and said.ok and said.text.strip():
            by_query.setdefault(said.call.query_id, []).append(call)
    ids = list(by_query)
    order = seeded("", seed, "aggregator").permutation(len(ids))
    tasks: list[Task] = []
    for query_id in (ids[int(i)] for i in order):
        task = _task(query_id, by_query[query_id], seed, max_tokens)
        if task is not None:
            tasks.append(task)
        if len(tasks) == n:
            break
    return tasks


def _task(query_id: str, calls: Sequence[RecordedCall], seed: int, max_tokens: int) -> Task | None:
    rng = seeded(query_id, seed, "aggregator")
    right = [c.completion for c in calls if c.score == 1 and c.completion.answer]
    if not right:
        return None
    one = right[int(rng.integers(len(right)))]
    wrong = [
        c.completion for c in calls if c.score == 0 and not is_same(c.completion.answer, one.answer)
    ]
    if len(wrong) < N_WRONG:
        return None
    others = [wrong[int(i)] for i in rng.permutation(len(wrong))[:N_WRONG]]
    chains = [one, *others]
    query = Query(
        query_id=query_id,
        messages=one.call.messages,
        fallback_price_usd=1.0,
        sampling=Sampling(max_tokens=max_tokens),
    )
    shuffled = tuple(chains[int(i)] for i in rng.permutation(len(chains)))
    return Task(query=query, chains=shuffled, right=one.answer)


def is_same(answer: str, other: str) -> bool:
    """Whether two answers are one. No answer is like none."""
    one, two = canonical([answer, other])
    return one is not None and one == two


async def fit_aggregator(
    calls: Sequence[RecordedCall],
    experts: Mapping[str, Expert],
    record: Recorder,
    *,
    n: int,
    seed: int,
    max_tokens: int = ROOM,
    budget_usd: float | None = None,
    likeliest: Likeliest | None = None,
    on_arm: Callable[[Arm], None] = lambda arm: None,
) -> AggregatorFit:
    """Ask every arm every task. ``record`` is told of each call. ``budget_usd``: an arm whose tasks
    might cost more than what is left is not asked.

    Raises DataError where too few questions have a right answer and two wrong ones.
    """
    pool = Pool.of(experts.values())
    tasks = synthetic_tasks(calls, n=n, seed=seed, max_tokens=max_tokens)
    if len(tasks) < MIN_TASKS:
        raise DataError(
            f"Only {len(tasks)} questions have one right answer and {N_WRONG} wrong ones; choosing "
            f"who aggregates needs {MIN_TASKS}. Record more, of several experts or samples: "
            "conclave record QUESTIONS.jsonl --samples 3"
        )
    known = {c.completion.call.arm for c in calls if c.score is not None}
    measured: list[Measured] = []
    right_of: dict[Arm, list[bool]] = {}
    left_out: list[str] = []
    spent = 0.0
    for arm in pool.arms:
        asked = [pool.in_mode(_asked(task, arm)) for task in tasks]
        if budget_usd is not None:
            reserved = [pool.most_usd(call) for call in asked]
            if spent + sum(reserved) > budget_usd:
                left_out.append(str(arm))
                continue
            # Retries stay within what was reserved.
            asked = [
                replace(call, max_cost_usd=usd) for call, usd in zip(asked, reserved, strict=True)
            ]
        on_arm(arm)
        written = await call_experts(asked, experts, record)
        right_of[arm] = [
            c.ok and is_same(c.answer, task.right) for c, task in zip(written, tasks, strict=True)
        ]
        found = Measured(
            arm=arm,
            n=len(tasks),
            n_right=sum(right_of[arm]),
            n_failed=sum(not c.ok for c in written),
            error=next((c.error for c in written if not c.ok), None),
            cost_usd=sum(c.cost_usd for c in written),
            n_chains=sum(c.call.arm == arm for task in tasks for c in task.chains),
        )
        spent += found.cost_usd
        measured.append(found)
    by_likeliest = None
    if likeliest is not None and not left_out:
        chosen = likeliest([task.query for task in tasks])
        n_right = sum(right_of[arm][i] for i, arm in enumerate(chosen))
        by_likeliest = n_right, len(tasks)
    return AggregatorFit(
        measured=tuple(sorted(measured, key=lambda m: (-m.n_right, m.cost_usd))),
        likeliest=by_likeliest,
        n_tasks=len(tasks),
        without_outcomes=tuple(str(a) for a in pool.arms if a not in known),
        left_out=tuple(left_out),
    )


def _asked(task: Task, arm: Arm) -> Call:
    """What synthesis would ask, kept apart from answers in the books."""
    return replace(synthesis_call(task.query, arm, [c.text for c in task.chains]), purpose="judge")


async def measure_aggregators(
    config: Config,
    ledger: Ledger,
    *,
    n: int,
    seed: int,
    max_tokens: int = ROOM,
    budget_usd: float | None = None,
    on_arm: Callable[[Arm], None] = lambda arm: None,
) -> AggregatorFit:
    """``fit_aggregator`` for the configured pool from its ledger, where every call is recorded.

    Raises NotFitted: who aggregates is one part of what is fitted.
    """
    conclave = Conclave.from_config(config, ledger=ledger)
    fitted, versions = conclave.require_fitted(), conclave.pool.versions
    calls = [
        c
        for c in ledger.recorded_calls()
        if versions.get(c.completion.call.arm.expert) == c.version
    ]

    def record(completions: Sequence[Completion]) -> None:
        ledger.add_calls(completions, [None] * len(completions), versions=versions)

    def likeliest(queries: Sequence[Query]) -> list[Arm]:
        n_chars = np.array([sum(len(m.content) for m in q.messages) for q in queries])
        scores = fitted.score([q.text for q in queries], n_chars, conclave.embedder.embed)
        return [by_success(scores.row(i))[0] for i in range(len(queries))]

    return await fit_aggregator(
        calls, conclave.experts, record, n=n, seed=seed, max_tokens=max_tokens,
        budget_usd=budget_usd, likeliest=likeliest, on_arm=on_arm,
    )  # fmt: skip


def use_aggregator(
    config: Config, history: FitHistory, found: AggregatorFit, *, seed: int
) -> str | None:
    """Put the best one to use, in the state that is in use now: measuring takes minutes, and
    another may have been fitted or restored meanwhile. Waits for a fit that is under way. Returns
    the new state's id; None where nobody was best. Raises NotFitted as ``load_fitted``."""
    if found.best is None:
        return None
    pool = Pool.of(make_experts(config).values())
    embedder = make_embedder(config.embedder)
    with history.alone(wait=True):
        fitted = load_fitted(config, pool, embedder)
        report = {**fitted.report, "aggregator": {"seed": seed, **found.report()}}
        fit_id = history.add(replace(fitted, aggregator=found.best, report=report))
        history.use(fit_id)
    return fit_id
