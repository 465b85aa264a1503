"""Which of the answers so far is right, if any: a calibrated model over who said what.

After some arms have answered, each distinct answer is a candidate, and "none of them" is one, too.
A model of choice (``routers.choice``) gives each a probability from what was believed of the arms
that say it (the router's P per arm, a learned weight per arm, their interplay: arms that err
together are learned to count less together), how they agree, how long and how sure they were, what
their own states say of it where a scorer reads them, and how right the answer looks
(``routers.options``). It is fitted on random subsets of the recorded
answers, so that one model serves every stage of a cascade, and it is what strategies ask whether to
stop.

Pure arrays: which answers are equal is the caller's business, and so is making calls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from experts.errors import DataError, NotFitted
from routers.choice import ChoiceModel, Options

_EPS = 0.01
_FAR = -9.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Votes:
    """Answers of arms to queries, one row an answer; arrays are (n_votes,)."""

    query: np.ndarray
    """Row of the query, in [0, n_queries)."""
    arm: np.ndarray
    """Column of the arm, in [0, n_arms)."""
    answer: np.ndarray
    """Equal numbers within a query are equal answers; -1 where the arm gave none."""
    effort: np.ndarray
    """How much longer (in sd of the log of output tokens) the arm's answer was than is usual for
    it: what is hard is answered at length. 0 where unknown."""
    surprise: np.ndarray
    """-log-probability of the answer under the arm, in sd above its mean; 0 where unknown."""
    form: np.ndarray
    """How right the answer looks: log-odds against chance; 0 where unknown."""
    own_odds: np.ndarray
    """Log-odds of being right by the arm's own states; 0 where unknown."""

    def __len__(self) -> int:
        return len(self.query)

    def __getitem__(self, rows: np.ndarray) -> Votes:
        return Votes(
            query=self.query[rows],
            arm=self.arm[rows],
            answer=self.answer[rows],
            effort=self.effort[rows],
            surprise=self.surprise[rows],
            form=self.form[rows],
            own_odds=self.own_odds[rows],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """The distinct answers to each query; arrays are (n_candidates,), grouped by query."""

    query: np.ndarray
    answer: np.ndarray
    p_right: np.ndarray
    """In (0, 1); over the candidates of a query they sum to 1 minus P(none is right)."""

    def leading(self, n_queries: int) -> tuple[np.ndarray, np.ndarray]:
        """(n_queries,) answer with the highest P per query, and that P; -1 and 0 where nobody
        answered."""
        answer, p = np.full(n_queries, -1), np.zeros(n_queries)
        order = np.lexsort((self.p_right, self.query))  # the last one of a query leads it
        answer[self.query[order]] = self.answer[order]
        p[self.query[order]] = self.p_right[order]
        return answer, p


class AnswerModel:
    """See the module."""

    def fit(self, votes: Votes, p_arm: np.ndarray, right: np.ndarray) -> Self:
        """p_arm: (n_queries, n_arms) what was believed before anyone was asked, predicted blindly;
        right: (n_votes,) scores in [0, 1]; an answer is right where its votes' mean is above 0.5.

        Raises DataError when no answer is right, or none is wrong: there is nothing to tell apart.
        """
        known = ~np.isnan(right)
        if not ((right[known] > 0.5).any() and (right[known] <= 0.5).any()):
            raise DataError("All recorded answers are right, or all are wrong: nothing to learn.")
        self.hears_own_ = bool(votes.own_odds.any())
        table = _table(votes, p_arm, hears_own=self.hears_own_)
        epochs = int(np.clip(_STEPS // max(1, len(p_arm) // 512), 5, 40))
        self.choice_ = ChoiceModel(n_epochs=epochs).fit(table.options, _labels(table, votes, right))
        self.n_arms_ = p_arm.shape[1]
        return self

    def predict(self, votes: Votes, p_arm: np.ndarray) -> Candidates:
        """Candidates of every query that has an answer. Raises NotFitted before ``fit``."""
        if not hasattr(self, "choice_"):
            raise NotFitted("AnswerModel.predict was called before fit.")
        if p_arm.shape[1] != self.n_arms_:
            raise DataError(f"Fitted for {self.n_arms_} arms, asked about {p_arm.shape[1]}.")
        table = _table(votes, p_arm, hears_own=self.hears_own_)
        p, _ = self.choice_.predict(table.options)
        return Candidates(query=table.options.group, answer=table.answer, p_right=p)

    def to_one(self, p_arm: Sequence[float]) -> OneQuestion:
        """For one question at a time. p_arm: (n_arms,) what is believed of the arms. Raises
        NotFitted before ``fit``."""
        if not hasattr(self, "choice_"):
            raise NotFitted("AnswerModel.to_one was called before fit.")
        return OneQuestion(self.choice_, p_arm, hears_own=self.hears_own_)

    def state(self) -> dict[str, np.ndarray]:
        about = {"n_arms": np.array(self.n_arms_), "hears_own": np.array(self.hears_own_)}
        return about | {f"choice.{k}": v for k, v in self.choice_.state().items()}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        model = cls()
        model.n_arms_, model.hears_own_ = int(state["n_arms"]), bool(state["hears_own"])
        model.choice_ = ChoiceModel.from_state(
            {k.removeprefix("choice."): v for k, v in state.items() if k.startswith("choice.")}
        )
        return model


class Vote(NamedTuple):
    """An answer of one arm, as a row of ``Votes``."""

    arm: int
    answer: int
    effort: float
    surprise: float
    form: float
    own_odds: float = 0.0


class OneQuestion:
    """What an answer model says of one question, as ``AnswerModel.predict`` does.

    The same features as ``_table``'s, in plain numbers. A strategy asks after every answer, about a
    handful of votes, and arrays of a handful take twenty times as long; whoever fits or replays has
    thousands of questions at once, and loops would.
    """

    def __init__(self, choice: ChoiceModel, p_arm: Sequence[float], *, hears_own: bool) -> None:
        self._choice, self._n_arms, self._hears_own = choice, len(p_arm), hears_own
        clipped = [min(max(p, _EPS), 1 - _EPS) for p in p_arm]
        self._logits = [math.log(p / (1 - p)) for p in clipped]
        self._odds = [p / (1 - p) for p in clipped]

    def leading(self, votes: Sequence[Vote]) -> tuple[int, float]:
        """The answer with the highest P, and that P; -1 and 0 where nobody answered."""
        said: dict[int, list[Vote]] = {}
        for vote in votes:
            if vote.answer >= 0:
                said.setdefault(vote.answer, []).append(vote)
        if not said:
            return -1, 0.0
        asked, logits = len(votes), self._logits
        mean_effort = sum([v.effort for v in votes]) / asked
        odds = {a: sum([self._odds[v.arm] for v in group]) for a, group in said.items()}
        total, top = max(sum(odds.values()), 1e-6), max(odds.values())
        answers = sorted(said)
        rows = np.zeros((len(answers), self._n_arms + _N_SUMMARIES + self._hears_own))
        for row, answer in zip(rows, answers, strict=True):
            group = said[answer]
            count = len(group)
            for vote in group:
                row[vote.arm] += 1
            of_group = [logits[v.arm] for v in group]
            support = sum(of_group)
            row[self._n_arms : self._n_arms + _N_SUMMARIES] = (
                support,
                support / count,
                max(of_group),
                sum([v.effort for v in group]) / count - mean_effort,
                sum([v.surprise for v in group]) / count,
                sum([v.form for v in group]) / count,
                count / asked,
                math.log1p(count),
                odds[answer] / total,
                math.log(max(odds[answer], 1e-3)),
                odds[answer] >= top - 1e-9,
            )
            if self._hears_own:
                row[-1] = sum([v.own_odds for v in group]) / count
        of_all = [logits[v.arm] for v in votes]
        context = np.array(
            [
                sum(of_all) / asked,
                math.log(asked),
                len(said) / asked,
                mean_effort,
                sum([v.answer < 0 for v in votes]) / asked,
                math.log(total + 1e-3),
                max(of_all),
            ]
        )
        p, _ = self._choice.predict_group(rows, context)
        # As in ``Candidates.leading``, the last one of equals.
        best = max(range(len(answers)), key=lambda i: (p[i], i))
        return answers[best], float(p[best])


_N_SUMMARIES = 11
"""Features of a candidate beside who says it, and its own odds where any arm has told them."""
_STEPS = 150
"""Steps of training, about: enough for a few thousand queries, and more overfits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    """Candidates as options, grouped by query."""

    options: Options
    answer: np.ndarray
    """(n_candidates,)."""
    of_vote: np.ndarray
    """(n_votes,) candidate that the vote is for; -1 for no answer."""


def _table(votes: Votes, p_arm: np.ndarray, *, hears_own: bool) -> _Table:
    n_queries, n_arms = p_arm.shape
    n_answers = int(votes.answer.max(initial=0)) + 1
    said = votes.answer >= 0
    keys = votes.query[said] * n_answers + votes.answer[said]
    unique, candidate = np.unique(keys, return_inverse=True)
    query, answer = unique // n_answers, unique % n_answers
    of_vote = np.full(len(votes), -1)
    of_vote[said] = candidate
    n = len(unique)

    p = np.clip(p_arm[votes.query, votes.arm], _EPS, 1 - _EPS)
    logit = np.log(p / (1 - p))
    asked = np.bincount(votes.query, minlength=n_queries).astype(float)
    per_query = np.maximum(asked, 1)
    mean_logit = np.bincount(votes.query, logit, n_queries) / per_query
    mean_effort = np.bincount(votes.query, votes.effort, n_queries) / per_query

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(candidate, values[said], n)

    arms = np.zeros((n, n_arms))
    np.add.at(arms, (candidate, votes.arm[said]), 1.0)
    count = np.maximum(summed(np.ones(len(votes))), 1)
    odds = summed(np.exp(logit))
    total = np.maximum(np.bincount(query, odds, n_queries), 1e-6)
    strongest = np.full(n, _FAR)
    np.maximum.at(strongest, candidate, logit[said])
    top = np.zeros(n_queries)
    np.maximum.at(top, query, odds)
    effort = summed(votes.effort - mean_effort[votes.query]) / count
    rows = np.column_stack(
        [
            arms,
            summed(logit),
            summed(logit) / count,
            strongest,
            effort,
            summed(votes.surprise) / count,
            summed(votes.form) / count,
            count / per_query[query],
            np.log1p(count),
            odds / total[query],
            np.log(np.maximum(odds, 1e-3)),
            odds >= top[query] - 1e-9,
            *([summed(votes.own_odds) / count] if hears_own else []),
        ]
    )
    best = np.full(n_queries, _FAR)
    np.maximum.at(best, votes.query, logit)
    distinct = np.bincount(query, minlength=n_queries)
    silent = np.bincount(votes.query[~said], minlength=n_queries)
    none = np.column_stack(
        [
            mean_logit,
            np.log(per_query),
            distinct / per_query,
            mean_effort,
            silent / per_query,
            np.log(total + 1e-3),
            best,
        ]
    )
    return _Table(
        options=Options(group=query, features=rows, context=none), answer=answer, of_vote=of_vote
    )


def _labels(table: _Table, votes: Votes, right: np.ndarray) -> np.ndarray:
    """(n_candidates,) bool."""
    told = (table.of_vote >= 0) & ~np.isnan(right)
    n = len(table.answer)
    wins = np.bincount(table.of_vote[told], right[told], n)
    count = np.bincount(table.of_vote[told], minlength=n)
    labels: np.ndarray = wins > 0.5 * np.maximum(count, 1)
    return labels
