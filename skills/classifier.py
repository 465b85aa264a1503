"""The trained annotator: multinomial logistic regression on embeddings.

Learned once there are some ten labelled questions a skill; it then reads new wordings better than a
vote of neighbours does (docs/skills.md has figures). scikit-learn fits, numpy applies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from skills.annotate import Annotation, novelty, softmax
from skills.errors import SkillsError

N_FOLDS = 3
"""Of the blind logits that the temperature is set on."""
_TEMPERATURES = np.geomspace(0.1, 10, 61)


class ClassifierAnnotator:
    """P(skill) = softmax(logits / temperature).

    ``inverse_penalty`` is scikit-learn's C. The temperature (Guo et al. 2017, arXiv:1706.04599) has
    the least log loss on questions that the logits were made without. Novelty is that of
    neighbours, so what is strange is strange to both.
    """

    kind: ClassVar[str] = "classifier"

    def __init__(self, *, inverse_penalty: float = 100.0) -> None:
        self.inverse_penalty = inverse_penalty

    def fit(self, embeddings: np.ndarray, labels: Sequence[str], skills: Sequence[str]) -> Self:
        """embeddings: (n, d) unit rows; labels: n names out of ``skills``."""
        if len(labels) == 0:
            raise SkillsError("There are no labelled questions to learn skills from.")
        self.skills = tuple(skills)
        index = {s: i for i, s in enumerate(self.skills)}
        self.embeddings_ = np.ascontiguousarray(embeddings, np.float32)
        truth = np.array([index[label] for label in labels])
        self.weights_, self.intercepts_ = self._fitted(self.embeddings_, truth)
        self._blind_logits = self._logits_without(self.embeddings_, truth, _folds(truth))
        self.temperature_ = _temperature(self._blind_logits, truth)
        return self

    def annotate(self, embeddings: np.ndarray) -> Annotation:
        embeddings = np.asarray(embeddings, np.float32)
        logits = embeddings @ self.weights_ + self.intercepts_
        return Annotation(
            p_skill=softmax(logits / self.temperature_),
            novelty=novelty(embeddings @ self.embeddings_.T),
        )

    def blind(
        self, embeddings: np.ndarray, labels: Sequence[str], groups: np.ndarray | None = None
    ) -> Annotation:
        """See ``RouterAnnotator``. Without itself is, here, without its fold."""
        similarity = self.embeddings_ @ self.embeddings_.T
        if groups is None:
            logits = self._blind_logits
            np.fill_diagonal(similarity, -np.inf)
        else:
            index = {s: i for i, s in enumerate(self.skills)}
            truth = np.array([index[label] for label in labels])
            codes = np.unique(groups, return_inverse=True)[1]
            logits = self._logits_without(self.embeddings_, truth, codes)
            similarity[codes[:, None] == codes] = -np.inf
        return Annotation(p_skill=softmax(logits / self.temperature_), novelty=novelty(similarity))

    def _logits_without(
        self, embeddings: np.ndarray, truth: np.ndarray, groups: np.ndarray
    ) -> np.ndarray:
        """(n, n_skills) of each question by a model that was fitted without its group."""
        logits = np.zeros((len(truth), len(self.skills)), np.float32)
        for group in np.unique(groups):
            hidden = groups == group
            if hidden.all():
                break  # nothing is left to learn from: all alike
            weights, intercepts = self._fitted(embeddings[~hidden], truth[~hidden])
            logits[hidden] = embeddings[hidden] @ weights + intercepts
        return logits

    def _fitted(self, embeddings: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (d, n_skills) and intercepts (n_skills,); -inf where a skill was never seen."""
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        n_skills, seen = len(self.skills), np.unique(truth)
        weights = np.zeros((embeddings.shape[1], n_skills), np.float32)
        intercepts = np.full(n_skills, -np.inf, np.float32)
        intercepts[seen] = 0.0
        if len(seen) > 1:
            # Threads of a busy machine wait for each other at every step.
            with threadpool_limits(1):
                model = LogisticRegression(C=self.inverse_penalty, max_iter=300, tol=1e-3).fit(
                    embeddings, truth
                )
            coefficients, constants = model.coef_, model.intercept_
            if len(seen) == 2:  # one column of odds in scikit-learn; here each skill has its own
                coefficients = np.concatenate([-coefficients, coefficients]) / 2
                constants = np.concatenate([-constants, constants]) / 2
            weights[:, seen], intercepts[seen] = coefficients.T, constants
        return weights, intercepts

    def state(self) -> Mapping[str, np.ndarray]:
        """Arrays that ``from_state`` rebuilds it from; embeddings in half precision."""
        return {
            "embeddings": self.embeddings_.astype(np.float16),
            "weights": self.weights_,
            "intercepts": self.intercepts_,
            "skills": np.array(self.skills),
            "settings": np.array([self.inverse_penalty, self.temperature_]),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        annotator = cls(inverse_penalty=float(state["settings"][0]))
        annotator.temperature_ = float(state["settings"][1])
        annotator.skills = tuple(str(s) for s in state["skills"])
        annotator.embeddings_ = state["embeddings"].astype(np.float32)
        annotator.weights_, annotator.intercepts_ = state["weights"], state["intercepts"]
        return annotator


def _folds(truth: np.ndarray) -> np.ndarray:
    """(n,) Every n-th question of each skill: no seed decides, and no fold hides a whole skill that
    has several questions."""
    folds = np.zeros(len(truth), int)
    for skill in np.unique(truth):
        rows = np.flatnonzero(truth == skill)
        folds[rows] = np.arange(len(rows)) % N_FOLDS
    return folds


def _temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """That of the least log loss; 1 where nothing tells. A skill that was never seen by the fold's
    model costs the same at every temperature, so it has no say."""
    rows = np.isfinite(logits[np.arange(len(truth)), truth])
    if not rows.any():
        return 1.0
    some, own = logits[rows], truth[rows]
    losses = []
    for temperature in _TEMPERATURES:
        p = softmax(some / temperature)[np.arange(len(own)), own]
        losses.append(-np.log(np.maximum(p, 1e-12)).mean())
    return float(_TEMPERATURES[int(np.argmin(losses))])
