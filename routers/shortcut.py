"""The shortcut: questions whose words settle the skill are not sent through the encoder.

What a question's words say (skills/quick.py) is believed where it has proved right: the bar on its
confidence is set on questions that it was not fitted on, and questions of a category that it does
not know must stay below, since only the encoder's router can tell that a question is strange.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from routers.category import fold_rows
from skills.annotate import Annotation
from skills.quick import QuickAnnotator

MIN_QUESTIONS = 200
"""With fewer, the shares below are luck."""
MIN_RIGHT = 0.99
"""Share of the questions answered blindly whose category must be right."""
MAX_STRANGE = 0.02
"""Share of the questions of a hidden category that may be answered all the same."""
_BARS = np.linspace(0.5, 0.98, 49)


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A quick annotator, and how sure it must be."""

    annotator: QuickAnnotator
    min_confidence: float
    """On the probability of the likeliest skill."""

    @classmethod
    def fit(
        cls, texts: Sequence[str], labels: Sequence[str], category_of: Mapping[str, str]
    ) -> Self | None:
        """None when there are too few questions, or no bar that keeps the two shares above."""
        skills = tuple(dict.fromkeys(labels))
        categories = np.array([category_of[s] for s in labels])
        if len(texts) < MIN_QUESTIONS or len(set(categories)) < 2:
            return None
        kin = [np.flatnonzero(categories == c) for c in dict.fromkeys(categories)]
        # Hiding one of two categories leaves one, where there may be a single skill to tell.
        if any(len({labels[i] for i in _rest(rows, len(texts))}) < 2 for rows in kin):
            return None
        blind = _cross_fit(texts, labels, skills, fold_rows(len(texts)))
        strange = _cross_fit(texts, labels, skills, kin)
        category = np.array([category_of[s] for s in skills])
        right = category[blind.argmax(axis=1)] == categories
        for bar in _BARS:
            answered = blind.max(axis=1) >= bar
            if not answered.any():
                return None
            fooled = (strange.max(axis=1) >= bar).mean()
            if right[answered].mean() >= MIN_RIGHT and fooled <= MAX_STRANGE:
                return cls(QuickAnnotator().fit(texts, labels, skills), float(bar))
        return None

    def annotate(self, texts: Sequence[str]) -> tuple[Annotation, np.ndarray]:
        """The annotation, and where it may be used: (n_texts,) bool."""
        annotation = self.annotator.annotate(texts)
        return annotation, annotation.p_skill.max(axis=1, initial=0) >= self.min_confidence

    def state(self) -> dict[str, np.ndarray]:
        """Arrays that ``from_state`` rebuilds it from."""
        return {**self.annotator.state(), "min_confidence": np.array(self.min_confidence)}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        return cls(QuickAnnotator.from_state(state), float(state["min_confidence"]))


def _cross_fit(
    texts: Sequence[str], labels: Sequence[str], skills: Sequence[str], folds: Sequence[np.ndarray]
) -> np.ndarray:
    """(n_texts, n_skills) probabilities by annotators that were fitted without the fold."""
    p = np.zeros((len(texts), len(skills)))
    for rows in folds:
        rest = _rest(rows, len(texts))
        annotator = QuickAnnotator().fit(
            [texts[i] for i in rest], [labels[i] for i in rest], skills
        )
        p[rows] = annotator.annotate([texts[i] for i in rows]).p_skill
    return p


def _rest(rows: np.ndarray, n: int) -> np.ndarray:
    return np.setdiff1d(np.arange(n), rows)
