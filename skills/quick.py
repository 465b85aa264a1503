"""Which skill does a question need, from its words alone, in some ten microseconds.

Words and pairs of words are hashed into buckets, and a logistic regression goes from buckets to
skills. It knows no synonyms, so it is for questions worded like known ones; routers/shortcut.py
says when to believe it, and who is asked otherwise.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self
from zlib import crc32

import numpy as np

from skills.annotate import Annotation
from skills.errors import SkillsError

_WORD = re.compile(r"[a-z']+|\d+|[^\sa-z\d]")
_MAX_CHARS = 4000
"""What a question is about is said by then, and a novel must not take longer than the encoder."""


class QuickAnnotator:
    """Logistic regression on hashed words and pairs; an ``Annotator`` of texts, not of embeddings.

    ``inverse_penalty`` is scikit-learn's C. A text's features weigh 1 / sqrt(how many it has).
    """

    def __init__(self, *, n_buckets: int = 4096, inverse_penalty: float = 300.0) -> None:
        self.n_buckets, self.inverse_penalty = n_buckets, inverse_penalty

    def fit(self, texts: Sequence[str], labels: Sequence[str], skills: Sequence[str]) -> Self:
        """labels: n names out of ``skills``, at least two different ones."""
        from scipy.sparse import csr_matrix
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        if len(set(labels)) < 2:
            raise SkillsError("There is nothing to tell apart: all questions need one skill.")
        rows = [self._buckets(t) for t in texts]
        starts = np.cumsum([0, *map(len, rows)])
        weight = np.concatenate([np.full(len(r), 1 / np.sqrt(len(r) or 1)) for r in rows])
        used, cells = np.unique(np.concatenate(rows), return_inverse=True)
        X = csr_matrix((weight, cells, starts), (len(texts), len(used)))
        # Threads of a busy machine wait for each other at every step: one took a hundredth.
        with threadpool_limits(1):
            model = LogisticRegression(C=self.inverse_penalty, max_iter=300).fit(X, list(labels))
        # Two classes are one column of odds in scikit-learn; here each skill has its own.
        coefficients, intercepts = model.coef_, model.intercept_
        if len(model.classes_) == 2:
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        index = {s: i for i, s in enumerate(skills)}
        columns = np.array([index[str(s)] for s in model.classes_])
        self.skills = tuple(skills)
        self.weights_ = np.zeros((self.n_buckets, len(skills)), np.float32)
        self.weights_[np.ix_(used, columns)] = coefficients.T
        self.intercepts_ = np.full(len(skills), -np.inf, np.float32)  # never seen, never said
        self.intercepts_[columns] = intercepts
        self.is_known_ = np.zeros(self.n_buckets, bool)
        self.is_known_[used] = True
        return self

    def annotate(self, texts: Sequence[str]) -> Annotation:
        """Novelty here is the share of a text's features that no known question has, in [0, 1]."""
        logits = np.empty((len(texts), len(self.skills)), np.float32)
        novelty = np.ones(len(texts))
        for i, text in enumerate(texts):
            buckets = self._buckets(text)
            n = len(buckets)
            logits[i] = self.intercepts_
            if n:
                logits[i] += self.weights_[buckets].sum(axis=0) / np.sqrt(n)
                novelty[i] = 1 - np.count_nonzero(self.is_known_[buckets]) / n
        exps = np.exp((logits - logits.max(axis=1, keepdims=True, initial=-np.inf)).astype(float))
        return Annotation(p_skill=exps / exps.sum(axis=1, keepdims=True), novelty=novelty)

    def _buckets(self, text: str) -> np.ndarray:
        """Distinct buckets of a text's features."""
        # Which numbers are added says nothing of the skill; that there are numbers does.
        found = _WORD.findall(text[:_MAX_CHARS].lower())
        words = ["<number>" if w[0].isdigit() else w for w in found]
        pairs = itertools.pairwise(["<start>", *words, "<end>"])
        features = {*words, *(f"{a} {b}" for a, b in pairs)}
        n = self.n_buckets
        codes = {crc32(f.encode("utf-8", "replace")) % n for f in features}
        return np.fromiter(codes, np.int64, len(codes))

    def state(self) -> Mapping[str, np.ndarray]:
        """Arrays that ``from_state`` rebuilds it from; weights in half precision."""
        return {
            "weights": self.weights_.astype(np.float16),
            "intercepts": self.intercepts_,
            "is_known": self.is_known_,
            "skills": np.array(self.skills),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        annotator = cls(n_buckets=len(state["weights"]))
        annotator.skills = tuple(str(s) for s in state["skills"])
        annotator.weights_ = state["weights"].astype(np.float32)
        annotator.intercepts_ = state["intercepts"]
        annotator.is_known_ = state["is_known"]
        return annotator
