"""A stream of recorded questions, in the middle of which an arm changes: what does learning save?

The router's beliefs (skill profiles) are fitted on train. Then questions of another split come in a
random order, with replacement; one arm is asked each, the one of least cost + (1 - P(right)) V, and
with some probability its recorded score is told. Half-way an arm becomes another:

- ``worse``: the arm that was asked most loses its right answer to so many questions;
- ``better``: of the arms that are asked rarely, the one that would then save most gets as many
  questions right that it had wrong;
- ``none``: nothing changes.

Regret is what the asked arm is expected to cost more than the best one for the question's task, if
all rates were known: cost + (1 - rate) V against its minimum, by the true rates of the questions
that the stream is drawn from. The code is what answers questions: ``routers.online``,
``routers.drift`` and ``routers.exploration``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.outcomes.matrix import OutcomeMatrix
from experts.values import Arm
from routers.drift import DriftRates, PageHinkley
from routers.exploration import explore
from routers.online import LearningRates, OnlineBeliefs, prior_observations, shifted
from routers.scores import QueryScores
from skills.profiles import SkillProfiles

SCENARIOS = ("none", "worse", "better")
CHANGED = 0.7
"""Share of the questions that a change turns round."""


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """A pool, what was fitted of it, and the questions that will come."""

    arms: tuple[str, ...]
    tasks: tuple[str, ...]
    p: np.ndarray
    """(n_arms, n_tasks) fitted."""
    sd: np.ndarray
    """(n_arms, n_tasks)."""
    cost_usd: np.ndarray
    """(n_arms, n_tasks) mean of a call."""
    score: np.ndarray
    """(n_queries, n_arms) that will come."""
    task: np.ndarray
    """(n_queries,) columns of ``tasks``."""
    fallback_price_usd: float

    def rates(self, score: np.ndarray) -> np.ndarray:
        """(n_arms, n_tasks) true ones."""
        return np.array([score[self.task == t].mean(axis=0) for t in range(len(self.tasks))]).T

    def objective(self, rates: np.ndarray) -> np.ndarray:
        """(n_arms, n_tasks) dollars."""
        result: np.ndarray = self.cost_usd + (1 - rates) * self.fallback_price_usd
        return result


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How beliefs are kept, and how much is explored."""

    name: str
    rates: LearningRates | None = None
    """None learns nothing."""
    share: float = 0.0
    """Of questions on which something may be explored."""
    min_sd: float = 0.04


@dataclass(kw_only=True, slots=True)
class Stream:
    """What happened in one stream."""

    regret_usd: np.ndarray
    """(n_questions,)."""
    n_explored: int = 0
    n_told: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """(n_arms,) outcomes of each."""
    alarms: list[tuple[int, int, str]] = field(default_factory=list)
    """Question, arm, better or worse."""
    changed: int | None = None
    """The arm that changed."""
    n_told_before: int = 0
    """Outcomes of that arm before it did."""


def make_world(
    matrix: OutcomeMatrix,
    *,
    fit_on: Sequence[str],
    stream_of: Sequence[str],
    n_fit: int,
    fallback_price_usd: float,
    seed: int,
) -> World:
    """fit_on and stream_of: names of splits; n_fit questions of the first are fitted on."""
    rng = np.random.default_rng(seed)
    split = np.array([q.split for q in matrix.queries])
    train = np.flatnonzero(np.isin(split, fit_on))
    coming = np.flatnonzero(np.isin(split, stream_of))
    tasks = tuple(sorted({str(t) for t in matrix.tasks[coming]}))
    train = train[np.isin(matrix.tasks[train].astype(str), tasks)]
    train = rng.choice(train, size=min(n_fit, len(train)), replace=False)
    profiles = SkillProfiles.from_outcomes(
        matrix.models,
        tasks,
        dict.fromkeys(tasks, "all"),
        [str(t) for t in matrix.tasks[train]],
        matrix.score[train],
    )
    p, sd = profiles.posterior()
    task = np.array([tasks.index(str(t)) for t in matrix.tasks[coming]])
    cost = np.array(
        [np.nanmean(matrix.cost_usd[coming][task == t], axis=0) for t in range(len(tasks))]
    ).T
    return World(
        arms=matrix.models,
        tasks=tasks,
        p=p,
        sd=sd,
        cost_usd=cost,
        score=matrix.score[coming],
        task=task,
        fallback_price_usd=fallback_price_usd,
    )


def change(world: World, scenario: str, rng: np.random.Generator) -> tuple[np.ndarray, int | None]:
    """(n_queries, n_arms) scores after the change, and whose they are."""
    if scenario == "none":
        return world.score, None
    usual = world.objective(world.p).argmin(axis=0)
    asked = np.bincount(usual[world.task], minlength=len(world.arms))
    turned = rng.random(len(world.score)) < CHANGED
    score = world.score.copy()
    if scenario == "worse":
        arm = int(asked.argmax())
        score[turned, arm] = 0.0
        return score, arm
    best = world.objective(world.rates(world.score)).min(axis=0)
    weight = np.bincount(world.task, minlength=len(world.tasks)) / len(world.task)
    rates = world.rates(world.score)
    saved = np.maximum(best - world.objective(rates + (1 - rates) * CHANGED), 0) @ weight
    saved[asked > 0.05 * len(world.task)] = -1.0
    arm = int(saved.argmax())
    score[turned, arm] = 1.0
    return score, arm


def run_stream(
    world: World,
    policy: Policy,
    scenario: str,
    *,
    n: int,
    told: float,
    seed: int,
    drift: DriftRates | None = None,
) -> Stream:
    """n questions; of each outcome one learns with probability ``told``. The same seed gives every
    policy the same questions and the same change."""
    rng = np.random.default_rng((seed, 1))
    own = np.random.default_rng((seed, 2))
    after, changed = change(world, scenario, rng)
    rows = rng.integers(0, len(world.score), n)
    heard = rng.random(n) < told
    may_explore = rng.random(n) < policy.share
    true = [world.objective(world.rates(s)) for s in (world.score, after)]
    regrets = [t - t.min(axis=0) for t in true]
    n_arms, n_tasks = world.p.shape
    beliefs = None
    if policy.rates is not None:
        prior = prior_observations(world.p, world.sd)
        beliefs = OnlineBeliefs(np.column_stack([prior, np.ones(n_arms)]), policy.rates)
    tests = [PageHinkley(drift or DriftRates()) for _ in range(n_arms)]
    one_hot = np.eye(n_tasks + 1)
    p = world.p.copy()
    known = np.zeros_like(p) if beliefs is None else beliefs.prior_n[:, :n_tasks].copy()
    arms = tuple(Arm(m.replace("/", "_")) for m in world.arms)
    stream = Stream(regret_usd=np.zeros(n), n_told=np.zeros(n_arms), changed=changed)
    for i, row in enumerate(rows):
        now = int(i >= n // 2)
        if i == n // 2 and changed is not None:
            stream.n_told_before = int(stream.n_told[changed])
        task = int(world.task[row])
        cost = world.cost_usd[:, task]
        arm = int((cost + (1 - p[:, task]) * world.fallback_price_usd).argmin())
        if may_explore[i] and beliefs is not None:
            usual = arm
            arm = _explored(arms, p[:, task], known[:, task], cost, world, policy, own, usual)
            stream.n_explored += int(arm != usual)
        stream.regret_usd[i] = regrets[now][arm, task]
        if not heard[i] or beliefs is None:
            continue
        score = float((after if now else world.score)[row, arm])
        stream.n_told[arm] += 1
        beliefs.observe(arm, one_hot[task], float(world.p[arm, task]), score)
        expected, sd = float(world.p[arm, task]), float(world.sd[arm, task])
        alarm = tests[arm].observe(expected, sd, score)
        if alarm:
            stream.alarms.append((i, arm, alarm))
        shifts = beliefs.shifts()
        moved = shifts.logits[arm, :n_tasks]
        p[arm] = shifted(world.p[arm], moved)
        known[arm] = shifts.prior_n[arm, :n_tasks] + shifts.n[arm, :n_tasks]
    return stream


def _explored(
    arms: tuple[Arm, ...],
    p: np.ndarray,
    known_n: np.ndarray,
    cost: np.ndarray,
    world: World,
    policy: Policy,
    rng: np.random.Generator,
    usual: int,
) -> int:
    """Given that this question is one of the share."""
    scores = QueryScores(
        arms=arms, p_correct=p, sd=np.zeros(len(p)), cost_usd=cost,
        latency_s=np.zeros(len(p)), novelty=0.0, is_general=False, skills={},
    )  # fmt: skip
    found = explore(
        scores, known_n, world.fallback_price_usd, cost, rng,
        share=1.0, min_sd=policy.min_sd, left_usd=np.inf,
    )  # fmt: skip
    return usual if found.arm is None else arms.index(found.arm)


def false_alarms(
    *, n: int, n_fit: int | None, seed: int, n_arms: int = 400, drift: DriftRates | None = None
) -> tuple[int, int]:
    """Alarms and observations where nothing changes: arms of all rates, whose rates were fitted on
    ``n_fit`` outcomes, or are known (None)."""
    rng = np.random.default_rng(seed)
    alarms = 0
    for _ in range(n_arms):
        rate = rng.uniform(0.02, 0.98)
        p, sd = rate, 0.0
        if n_fit is not None:
            a = rng.binomial(n_fit, rate) + 2.0
            p = a / (n_fit + 4)
            sd = (p * (1 - p) / (n_fit + 5)) ** 0.5
        test = PageHinkley(drift or DriftRates())
        for right in rng.random(n) < rate:
            test.observe(p, sd, float(right))
        alarms += test.n_alarms
    return alarms, n_arms * n
