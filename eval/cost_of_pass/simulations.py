"""Estimators of cost-of-pass, and the gate, judged where the truth is known: by simulation.

Costs are in units of a run of the cheapest kind, so that truths are round numbers. For each
estimator: what it is an estimate of, the true value of that, the mean of the estimates over
simulated problems with its 95 % interval, and the bias. *Plain* estimators are what is often
reported; *ours* are held to 2 %. Everything is drawn from one seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from eval.cost_of_pass.few_runs import (
    chosen_and_paid,
    chosen_by_group,
    over_all_orders,
    plug_in,
    plug_in_where_solved,
    until_successes,
    with_human,
)
from eval.statistics import Z95, wilson_interval
from routers.gate import fit_gate

N_RUNS = 8
"""Runs a problem: what arXiv:2504.13359 has."""
HUMAN, DEAR_HUMAN = 30.0, 200.0
"""Cost of a person, in runs: where problems are alike, and where they are not."""
TOLERANCE = 0.02
_LONG = 30
"""Recorded runs where one goes on until 3 successes, times 1 / P: fewer come once in 10^10."""
_CHUNK = 5000
"""Problems at a time: bounds memory."""
ALPHA, DELTA = 0.05, 0.1
"""The gate's promise that is put to the test: risk, and how often it may be broken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One estimator in one situation."""

    situation: str
    estimator: str
    of: str
    """What it is compared with."""
    ours: bool
    n: int
    """Simulated estimates."""
    truth: float
    mean: float
    ci: tuple[float, float]
    """Of the mean; where truths are simulated too, of its difference from theirs."""
    bias: float
    """(mean - truth) / truth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateRow:
    """A way of choosing a gate's threshold, over simulated calibrations."""

    gate: str
    ours: bool
    n_calibration: int
    """Answers that each gate was chosen on."""
    n_gates: int
    violation_rate: float
    """Share of gates whose true risk is above alpha."""
    ci: tuple[float, float]
    mean_coverage: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulated:
    """What ``conclave eval estimators`` prints."""

    rows: tuple[Row, ...]
    gates: tuple[GateRow, ...]

    @property
    def ok(self) -> bool:
        """Whether ours kept what they promise, as far as so many simulations can tell.

        With the default numbers the intervals are within 1.3 % of the mean; with few, only what
        is beyond luck counts as a broken promise.
        """
        luck = [1.5 * (r.ci[1] - r.ci[0]) / 2 / r.truth for r in self.rows]  # 3 standard errors
        return all(
            abs(r.bias) <= max(TOLERANCE, x) for r, x in zip(self.rows, luck, strict=True) if r.ours
        ) and all(g.ci[0] <= DELTA for g in self.gates if g.ours)


def simulate(
    *, n: int = 40_000, n_gates: int = 1000, seed: int = 0, on_stage: Callable[[str], None] = print
) -> Simulated:
    """n: problems per situation; n_gates: simulated calibrations of the gate."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    on_stage("one arm on one problem, 8 runs")
    for p in (0.05, 0.1, 0.3):
        rows += _one_problem(p, 1.0, n, rng)
    rows += _one_problem(0.1, 3.0, n, rng)
    on_stage("many problems")
    rows += _few_questions(n, rng)
    rows += _many_problems(n, rng)
    on_stage("the frontier of 12 arms")
    for n_runs in (N_RUNS, 4 * N_RUNS):
        rows += _frontier(n_runs, n, rng)
    rows += _by_task(n // 10, rng)
    on_stage(f"{n_gates} calibrations of the gate")
    return Simulated(rows=tuple(rows), gates=tuple(_gates(n_gates, rng)))


def _row(
    situation: str,
    estimator: str,
    of: str,
    truth: float | np.ndarray,
    values: np.ndarray,
    *,
    ours: bool,
) -> Row:
    """truth: one, or (n,) of the same problems."""
    known = ~np.isnan(values)
    true_mean = float(np.mean(truth))
    noise = (values - truth)[known]
    half = Z95 * noise.std(ddof=1) / np.sqrt(len(noise))
    mean = float(values[known].mean())
    return Row(
        situation=situation,
        estimator=estimator,
        of=of,
        ours=ours,
        n=len(noise),
        truth=true_mean,
        mean=mean,
        ci=(float(mean - half), float(mean + half)),
        bias=mean / true_mean - 1,
    )


def _one_problem(p: float, wrong_cost: float, n: int, rng: np.random.Generator) -> Iterator[Row]:
    """Right with probability p for 1, wrong for ``wrong_cost``."""
    situation = f"P = {p:g}" + ("" if wrong_cost == 1 else f", wrong answers cost {wrong_cost:g}")
    q = 1 - p
    ratio = (p + q * wrong_cost) / p

    def tried(tries: int) -> float:
        """Expected cost of trying until right, at most so often."""
        return (1 - q**tries) * ratio

    cost, right = _runs(np.full(4 * n, p), wrong_cost, N_RUNS, rng)
    of = "E[cost] / P"
    solved = plug_in_where_solved(cost, right)
    yield _row(situation, "ratio, unsolved dropped", of, ratio, solved, ours=False)
    until = [
        until_successes(*_runs(np.full(m, p), wrong_cost, int(_LONG / p), rng), 3)
        for m in _chunks(n // 2)
    ]
    yield _row(situation, "until 3 successes", of, ratio, np.concatenate(until), ours=True)
    if wrong_cost == 1:
        orders = over_all_orders(cost, right)
        of = f"at most {N_RUNS + 1} tries"
        yield _row(situation, "all orders of the runs", of, tried(N_RUNS + 1), orders, ours=True)
    of = f"{N_RUNS} tries, then a person"
    truth = tried(N_RUNS) + q**N_RUNS * HUMAN
    paid = with_human(cost, right, HUMAN, N_RUNS)
    yield _row(situation, "all orders, then a person", of, truth, paid, ours=True)


def _few_questions(n: int, rng: np.random.Generator) -> Iterator[Row]:
    """The pooled ratio of 20 questions of equal difficulty."""
    p, asked = 0.3, 20
    cost, right = _runs(np.full(n, p), 1.0, asked, rng)
    situation, of = f"pooled over {asked} questions, P = {p:g}", "sum of costs / sum of right"
    solved = plug_in_where_solved(cost, right)
    yield _row(situation, "ratio, unsolved dropped", of, 1 / p, solved, ours=False)
    orders = over_all_orders(cost, right)
    yield _row(situation, "all orders of the questions", of, 1 / p, orders, ours=True)


def _many_problems(n: int, rng: np.random.Generator) -> Iterator[Row]:
    """P ~ Beta(3, 1): 1 / E[P] = 4 / 3, but E[1 / P] = 3 / 2. Two quantities, one name."""
    situation = "problems of P ~ Beta(3, 1)"
    p = rng.beta(3, 1, n)
    cost, right = _runs(p, 1.0, N_RUNS, rng)
    batches = right[: n // 100 * 100].reshape(-1, 100 * N_RUNS)
    pooled = plug_in(np.ones(batches.shape), batches)
    yield _row(situation, "pooled ratio", "pooled: 1 / E[P]", 4 / 3, pooled, ours=True)
    yield _row(situation, "pooled ratio", "mean over problems: E[1 / P]", 1.5, pooled, ours=False)
    of = "mean over problems: E[1 / P]"
    solved = plug_in_where_solved(cost, right)
    yield _row(situation, "ratio, unsolved dropped", of, 1.5, solved, ours=False)
    until = []
    for part in np.array_split(np.sort(p), 8):  # the hard ones together: only they need many runs
        until.append(until_successes(*_runs(part, 1.0, int(_LONG / part[0]), rng), 3))
    yield _row(situation, "until 3 successes", of, 1.5, np.concatenate(until), ours=True)


def _frontier(n_runs: int, n: int, rng: np.random.Generator) -> Iterator[Row]:
    """12 arms whose price rises a hundredfold with their ability, problems of any difficulty.

    Cheap arms are seldom right on hard problems, and look best on those where they were lucky.
    """
    situation = f"frontier of 12 arms, {n_runs} runs"
    price, ability = 10 ** np.linspace(0, 2, 12), np.linspace(-2, 2, 12)
    difficulty = rng.normal(0, 1.5, (n, 1))
    p = 1 / (1 + np.exp(difficulty - ability + rng.normal(0, 1, (n, 12))))
    right = (rng.random((*p.shape, n_runs)) < p[..., None]).astype(np.int8)
    cost = np.broadcast_to(price[:, None], right.shape)
    rows = np.arange(len(p))
    best = np.minimum((price / p).min(axis=1), DEAR_HUMAN)
    claims = np.minimum(plug_in(cost, right), DEAR_HUMAN)
    chosen = claims.argmin(axis=1)
    of, plain = "the true frontier", "picked on the reported runs"
    yield _row(situation, f"{plain}: claims", of, best, claims.min(axis=1), ours=False)
    bought = np.where(
        claims[rows, chosen] >= DEAR_HUMAN, DEAR_HUMAN, price[chosen] / p[rows, chosen]
    )
    yield _row(situation, f"{plain}: pays", of, best, bought, ours=False)
    half = n_runs // 2
    _, paid = chosen_and_paid(cost, right, DEAR_HUMAN, n_splits=4, seed=int(rng.integers(2**31)))
    of, name = f"what picking on {half} runs pays", "picked on half, paid on the other"
    yield _row(situation, name, of, _truly_paid(p, price, half, rng), paid, ours=True)


def _truly_paid(
    p: np.ndarray, price: np.ndarray, tries: int, rng: np.random.Generator
) -> np.ndarray:
    """(n_problems,) true price, of so many tries and then a person, of arms picked on fresh
    runs."""
    rows, paid, n_draws = np.arange(len(p)), np.zeros(len(p)), 4
    for _ in range(n_draws):
        right = (rng.random((*p.shape, tries)) < p[..., None]).astype(np.int8)
        cost = np.broadcast_to(price[:, None], right.shape)
        claims = with_human(cost, right, DEAR_HUMAN, tries)
        chosen = claims.argmin(axis=1)
        failed = (1 - p[rows, chosen]) ** tries
        true_price = price[chosen] * (1 - failed) / p[rows, chosen] + failed * DEAR_HUMAN
        paid += np.where(claims[rows, chosen] >= DEAR_HUMAN, DEAR_HUMAN, true_price)
    return paid / n_draws


def _by_task(n_tasks: int, rng: np.random.Generator) -> Iterator[Row]:
    """Every problem run once: 12 arms, tasks of 40 problems, one arm chosen for each task."""
    size = 40
    situation = f"tasks of {size} problems, 12 arms, 1 run"
    price = np.exp(rng.normal(0, 1, 12))
    p = rng.beta(2, 2, (n_tasks, 12))
    task = np.repeat(np.arange(n_tasks), size)

    def outcomes(n: int) -> np.ndarray:
        rows = np.repeat(np.arange(n_tasks), n)
        return (rng.random((len(rows), 12)) < p[rows]).astype(float)

    true_price = price + (1 - p) * HUMAN
    best = np.repeat(np.minimum(true_price.min(axis=1), HUMAN), size)
    right = outcomes(size)
    cost = np.broadcast_to(price, right.shape)
    human = np.full(len(right), HUMAN)
    oracle = np.minimum(plug_in(cost[..., None], right[..., None]), HUMAN).min(axis=1)
    of = "the best arm of each task"
    yield _row(situation, "picked on the reported run: claims", of, best, oracle, ours=False)
    _, paid = chosen_by_group(cost, right, task, human, seed=int(rng.integers(2**31)))
    truths = []
    for _ in range(20):
        means = outcomes(size // 2).reshape(n_tasks, size // 2, 12).mean(axis=1)
        chosen = (price + (1 - means) * HUMAN).argmin(axis=1)
        truths.append(true_price[np.arange(n_tasks), chosen])
    of, name = f"what picking on {size // 2} problems pays", "picked on half, paid on the other"
    by_task = paid.reshape(n_tasks, size).mean(axis=1)
    yield _row(situation, name, of, np.mean(truths, axis=0), by_task, ours=True)


def _gates(n_gates: int, rng: np.random.Generator, n: int = 1000) -> Iterator[GateRow]:
    """Confidences ~ Beta(12, 1) that are right as often as they say: 7.7 % are wrong in all."""
    bounded, naive = np.empty((2, n_gates, 2))
    for i in range(n_gates):
        confidence = rng.beta(12, 1, n)
        right = (rng.random(n) < confidence).astype(float)
        gate = fit_gate(confidence, right, alpha=ALPHA, delta=DELTA)
        bounded[i] = _true_risk(gate.threshold) > ALPHA, gate.coverage
        order = np.argsort(-confidence)
        risk = np.cumsum(1 - right[order]) / np.arange(1, n + 1)
        able = np.flatnonzero(risk <= ALPHA)
        threshold = confidence[order[able[-1]]] if len(able) else np.inf
        naive[i] = _true_risk(threshold) > ALPHA, (confidence >= threshold).mean()
    for name, told, ours in (
        ("Clopper-Pearson, strict to loose", bounded, True),
        ("loosest whose observed risk is low enough", naive, False),
    ):
        broken = float(told[:, 0].sum())
        yield GateRow(
            gate=name,
            ours=ours,
            n_calibration=n,
            n_gates=n_gates,
            violation_rate=broken / n_gates,
            ci=wilson_interval(broken, n_gates),
            mean_coverage=float(told[:, 1].mean()),
        )


def _true_risk(threshold: float) -> float:
    """1 - E[c | c >= t] for c ~ Beta(12, 1), whose density is 12 c^11."""
    if threshold >= 1:
        return 0.0
    return float(1 - 12 / 13 * (1 - threshold**13) / (1 - threshold**12))


def _runs(
    p: np.ndarray, wrong_cost: float, n_runs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    right = (rng.random((len(p), n_runs), dtype=np.float32) < p[:, None]).astype(np.int8)
    return np.where(right == 1, 1.0, wrong_cost), right


def _chunks(n: int) -> list[int]:
    """Sizes that add up to n."""
    return [len(part) for part in np.array_split(np.arange(n), max(1, n // _CHUNK))]
