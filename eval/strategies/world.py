"""A pool's recorded outcomes as a world that strategies can be run in.

Columns ``name``, ``name#2``, ... are samples of one arm. What a router would have believed of each
question is worked out blindly on development (by folds) and by a fit to all of it for test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from eval.outcomes.matrix import OutcomeMatrix
from eval.outcomes.runs import columns_by_arm
from eval.routing.points import N_FOLDS, Sides, blind_and_test, sides_of
from experts.equality import answer_numbers
from experts.errors import DataError
from experts.expert import Pool
from experts.values import NO_LIMITS, Arm, Call, Completion, Message, Query
from orchestrator.drivers.replay import run_replay
from orchestrator.drivers.run import Run
from orchestrator.strategies import make_strategy
from routers.competency import Competency
from routers.estimators import DEFAULT_ESTIMATOR, ESTIMATORS
from routers.outcomes import Features, Outcomes
from routers.plans import Plan
from routers.scores import QueryScores
from skills.annotate import NeighbourAnnotator

N_CLUSTERS = 64
"""Of questions; Avengers' number, and the skills where nobody annotated any (arXiv:2505.19797)."""
N_SKILLS = 3
"""The likeliest skills of a question that count."""
WORTH = 40
"""Outcomes that a belief counts as, for its standard deviation: the neighbours of ``knn``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What a router believes of every query of the matrix; of development queries, blindly."""

    p_correct: np.ndarray
    """(n_queries, n_arms)."""
    skills: Sequence[Mapping[str, float]]
    competency: Sequence[Competency]
    other_choice: Sequence[Arm] = ()
    """Whom a router of words would ask; empty where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """A plan on some queries; arrays of shape (n,)."""

    score: np.ndarray
    cost_usd: np.ndarray
    n_calls: np.ndarray
    """(n, n_arms) calls that were made to each arm."""


class World:
    """Recorded answers, and what could be believed before they were given."""

    def __init__(
        self, matrix: OutcomeMatrix, embeddings: np.ndarray, words: np.ndarray, *, seed: int = 0
    ) -> None:
        """embeddings, words: (n_queries, n_dims), of meaning and of words alone.

        Raises DataError where an outcome or a price is unknown, or no answer is recorded.
        """
        self.columns = {Arm(name): js for name, js in columns_by_arm(matrix).items()}
        for what, values in (("scores", matrix.score), ("costs", matrix.cost_usd)):
            if np.isnan(values).any():
                raise DataError(f"Some {what} are unknown, so strategies cannot be replayed.")
        if not any(answer is not None for answer in matrix.pred.flat):
            raise DataError("No answers are recorded (`pred`): strategies compare answers.")
        self.matrix, self.arms = matrix, tuple(self.columns)
        firsts = matrix.of_models([matrix.models[js[0]] for js in self.columns.values()])
        self.sides: Sides = sides_of(firsts, embeddings, seed=seed)
        self.words, self.seed = words, seed
        self._same = answer_numbers(matrix.pred)
        self._cost_usd = self.sides.dev_matrix.cost_usd.mean(axis=0)

    @property
    def n_samples(self) -> int:
        """Samples that are recorded of every arm."""
        return min(map(len, self.columns.values()))

    @cached_property
    def by_meaning(self) -> View:
        """The router that compositions start from; skills are tasks, as neighbours tell them."""
        p = self._predicted(ESTIMATORS[DEFAULT_ESTIMATOR], self.sides)
        words = replace(self.sides, features=replace(self.sides.features, embeddings=self.words))
        other = self._predicted(ESTIMATORS["knn"], words).argmax(axis=1)
        labels = list(self.matrix.tasks)
        return View(
            p_correct=p,
            skills=self._annotated(labels),
            competency=self._counted(labels),
            other_choice=[self.arms[j] for j in other],
        )

    @cached_property
    def by_cluster(self) -> View:
        """Avengers' router: ranks of the arms in the clusters near a question. Skills are clusters:
        nobody need have annotated any."""
        labels = self._clusters()
        return View(
            p_correct=self._predicted(ESTIMATORS["cluster-ranks"], self.sides),
            skills=self._annotated(labels),
            competency=self._counted(labels),
        )

    @cached_property
    def by_arm(self) -> View:
        """The arm that is right most often, whatever the question."""
        nothing = [dict[str, float]()] * len(self.matrix)
        return View(
            p_correct=self._predicted(ESTIMATORS["best-single"], self.sides),
            skills=nothing,
            competency=self._counted(list(self.matrix.tasks)),
        )

    def play(self, plan: Plan, view: View, rows: np.ndarray) -> Played:
        """A plan on these queries, its calls answered from the matrix."""
        pool = Pool(())
        index = {arm: a for a, arm in enumerate(self.arms)}
        score, cost = np.zeros(len(rows)), np.zeros(len(rows))
        calls = np.zeros((len(rows), len(self.arms)))
        for n, i in enumerate(map(int, rows)):
            query = Query(
                query_id=self.matrix.queries[i].query_id,
                messages=(Message(role="user", content="?"),),  # nobody reads it
                fallback_price_usd=1.0,
            )
            strategy = make_strategy(plan, _believed, None, view.competency[i])
            steps = strategy(query, self._scores(view, i), pool)
            answer = run_replay(Run(steps, NO_LIMITS), partial(self._recorded, i))
            if answer.text:
                score[n] = self.matrix.score[i, int(answer.text)]
            cost[n] = answer.cost_usd
            for completion in answer.completions:
                calls[n, index[completion.call.arm]] += 1
        return Played(score=score, cost_usd=cost, n_calls=calls)

    def _scores(self, view: View, i: int) -> QueryScores:
        p = view.p_correct[i]
        other = view.other_choice[i] if view.other_choice else None
        return QueryScores(
            arms=self.arms,
            p_correct=p,
            sd=np.sqrt(p * (1 - p) / WORTH),
            cost_usd=self._cost_usd,
            latency_s=np.zeros(len(p)),
            novelty=0.0,
            is_general=False,
            skills=view.skills[i],
            other_choice=other,
        )

    def _recorded(self, i: int, call: Call) -> Completion:
        """The text is the column, so that the score is found again; the answer says who agrees."""
        columns = self.columns[call.arm]
        # An arm that is asked more often than it was recorded says the same again, and is paid
        # again: what a deterministic model would do.
        j = columns[min(call.sample, len(columns) - 1)]
        same = int(self._same[i, j])
        # In letters: answers with digits would be read as numbers, most of what comparing takes.
        answer = "said " + "x" * (same + 1) if same >= 0 else "nothing " + "x" * (j + 1)
        usd = float(self.matrix.cost_usd[i, j])
        return Completion(call=call, text=str(j), answer=answer, cost_usd=usd)

    def _predicted(self, make: Callable[..., object], sides: Sides) -> np.ndarray:
        blind, test = blind_and_test(make, sides)  # type: ignore[arg-type]
        p = np.zeros((len(self.matrix), len(self.arms)))
        p[sides.dev], p[sides.test] = blind, test
        return np.clip(p, 0.0, 1.0)

    def _folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows to learn from, and rows that are judged by it."""
        dev, fold = self.sides.dev, self.sides.fold
        blind = [(dev[fold != k], dev[fold == k]) for k in range(N_FOLDS)]
        return [*blind, (dev, self.sides.test)]

    def _annotated(self, labels: Sequence[str]) -> list[Mapping[str, float]]:
        skills = tuple(dict.fromkeys(labels))
        found: list[Mapping[str, float]] = [{}] * len(labels)
        vectors = self.sides.features.embeddings
        for known, judged in self._folds():
            annotator = NeighbourAnnotator().fit(vectors[known], [labels[i] for i in known], skills)
            for i, p in zip(judged, annotator.annotate(vectors[judged]).p_skill, strict=True):
                top = np.argsort(-p)[:N_SKILLS]
                found[i] = {skills[s]: float(p[s]) for s in top if p[s] >= 0.01}
        return found

    def _counted(self, labels: Sequence[str]) -> list[Competency]:
        outcomes: Outcomes = replace(self.sides.outcomes, skills=tuple(labels))
        found: dict[int, Competency] = {}
        for known, judged in self._folds():
            found |= dict.fromkeys(map(int, judged), Competency.of(outcomes[known]))
        return [found[i] for i in range(len(labels))]

    def _clusters(self) -> list[str]:
        """The cluster of each query; centres are found without looking at outcomes or at test."""
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        features: Features = self.sides.features
        dev = features.embeddings[self.sides.dev]
        n = min(N_CLUSTERS, len(np.unique(dev, axis=0)))
        with threadpool_limits(1):
            means = KMeans(n, n_init=3, random_state=self.seed).fit(dev)
            nearest = means.predict(features.embeddings)
        return [f"cluster-{k}" for k in nearest]


def _believed(completion: Completion, scores: QueryScores) -> float:
    """What the router believed of the arm: no log-probabilities are recorded."""
    return float(scores.p_correct[scores.index(completion.call.arm)])
