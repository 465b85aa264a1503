"""Which skills does a question need? Two annotators, one result.

``DescriptorAnnotator`` compares a question with the taxonomy's sentences and needs no data;
``NeighbourAnnotator`` compares it with questions whose skill is known, and is better once there are
some. Both also say how far a question is from what they know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from skills.errors import SkillsError

N_NEAREST = 5
"""Neighbours whose mean distance is the novelty of a question."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """Skills of a batch of questions."""

    p_skill: np.ndarray
    """(n_questions, n_skills), rows sum to 1: the chance that each is the skill needed."""
    novelty: np.ndarray
    """(n_questions,) in [0, 2]: 1 - cosine to what is known; 0 means seen."""


class Annotator(Protocol):
    """Turns embeddings into an annotation over ``skills``."""

    @property
    def skills(self) -> tuple[str, ...]: ...
    def annotate(self, embeddings: np.ndarray) -> Annotation: ...


class DescriptorAnnotator:
    """Softmax over cosine similarities to one descriptor a skill (Symbolic-MoE's matching step,
    METHODS "map each keyword to its nearest", with whole questions in place of keywords)."""

    def __init__(
        self, skills: Sequence[str], descriptors: np.ndarray, *, sharpness: float = 20.0
    ) -> None:
        self.skills = tuple(skills)
        self.descriptors, self.sharpness = descriptors, sharpness

    def annotate(self, embeddings: np.ndarray) -> Annotation:
        similarity = embeddings @ self.descriptors.T
        return Annotation(
            p_skill=_softmax(self.sharpness * similarity), novelty=1 - similarity.max(axis=1)
        )


class NeighbourAnnotator:
    """Similarity-weighted vote of the k nearest labelled questions.

    p(s | x) is proportional to the sum over the k nearest i with skill s of exp(sharpness * cos_i).
    """

    def __init__(self, *, k: int = 15, sharpness: float = 20.0) -> None:
        self.k, self.sharpness = k, sharpness

    def fit(self, embeddings: np.ndarray, labels: Sequence[str], skills: Sequence[str]) -> Self:
        """embeddings: (n, d) unit rows; labels: n names out of ``skills``."""
        if len(labels) == 0:
            raise SkillsError("There are no labelled questions to learn skills from.")
        self.skills = tuple(skills)
        index = {s: i for i, s in enumerate(self.skills)}
        self.embeddings_ = np.ascontiguousarray(embeddings, np.float32)
        self.labels_ = np.array([index[label] for label in labels])
        return self

    def annotate(
        self, embeddings: np.ndarray, *, leave_out: Sequence[np.ndarray] | None = None
    ) -> Annotation:
        """``leave_out``: per question, the reference rows that must not be looked at (itself, say,
        or its whole category): how fitting measures itself without peeking."""
        similarity = np.asarray(embeddings, np.float32) @ self.embeddings_.T
        for row, hidden in zip(similarity, leave_out or (), strict=False):
            row[hidden] = -np.inf
        k = min(self.k, similarity.shape[1])
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        cosines = np.take_along_axis(similarity, nearest, axis=1)
        weights = np.exp(self.sharpness * (cosines - cosines.max(axis=1, keepdims=True)))
        n, n_skills = len(embeddings), len(self.skills)
        cells = self.labels_[nearest] + n_skills * np.arange(n)[:, None]
        votes = np.bincount(cells.ravel(), weights.ravel(), n * n_skills).reshape(n, n_skills)
        p_skill = votes / votes.sum(axis=1, keepdims=True)
        top = np.sort(cosines, axis=1)[:, -N_NEAREST:]
        return Annotation(p_skill=p_skill, novelty=1 - top.mean(axis=1))

    def state(self) -> Mapping[str, np.ndarray]:
        """Arrays that ``from_state`` rebuilds it from; embeddings in half precision."""
        return {
            "embeddings": self.embeddings_.astype(np.float16),
            "labels": self.labels_.astype(np.int16),
            "skills": np.array(self.skills),
            "settings": np.array([self.k, self.sharpness]),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        annotator = cls(k=int(state["settings"][0]), sharpness=float(state["settings"][1]))
        annotator.skills = tuple(str(s) for s in state["skills"])
        annotator.embeddings_ = state["embeddings"].astype(np.float32)
        annotator.labels_ = state["labels"].astype(int)
        return annotator


def _softmax(logits: np.ndarray) -> np.ndarray:
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: np.ndarray = exps / exps.sum(axis=1, keepdims=True)
    return result
