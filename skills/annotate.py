"""Which skills does a question need? One result, and the protocol of those who give it.

``DescriptorAnnotator`` compares a question with the taxonomy's sentences; ``NeighbourAnnotator``
with questions whose skill is known. Beside this module are a trained classifier (``classifier``),
keywords that an LLM names (``keywords``) and a quick look at the words (``quick``). All also say
how far a question is from what they know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self, TypeVar

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


Seen_contra = TypeVar("Seen_contra", contravariant=True)


class Annotator(Protocol[Seen_contra]):
    """Turns questions, as it sees them, into an annotation over ``skills``: embeddings, texts, or
    keywords."""

    @property
    def skills(self) -> tuple[str, ...]: ...
    def annotate(self, seen: Seen_contra, /) -> Annotation: ...


class RouterAnnotator(Annotator[np.ndarray], Protocol):
    """An annotator of embeddings that a router is fitted with: it can tell how good it is on
    questions that it does not know, and be kept as arrays."""

    kind: ClassVar[str]
    """As configuration and fitted state name it."""

    def fit(self, embeddings: np.ndarray, labels: Sequence[str], skills: Sequence[str]) -> Self:
        """embeddings: (n, d) unit rows; labels: n names out of ``skills``."""
        ...

    def blind(
        self, embeddings: np.ndarray, labels: Sequence[str], groups: np.ndarray | None = None
    ) -> Annotation:
        """The questions of ``fit`` as if they were not known: each annotated without itself or,
        with ``groups`` (n,), without all questions of its group."""
        ...

    def state(self) -> Mapping[str, np.ndarray]: ...


class DescriptorAnnotator:
    """Softmax over cosine similarities to one descriptor a skill (the matching step of
    Symbolic-MoE, arXiv:2503.05641, with whole questions in place of keywords)."""

    kind: ClassVar[str] = "descriptors"

    def __init__(
        self, skills: Sequence[str], descriptors: np.ndarray, *, sharpness: float = 20.0
    ) -> None:
        """descriptors: (n_skills, d), unit rows."""
        self.skills = tuple(skills)
        self.descriptors, self.sharpness = descriptors, sharpness

    def fit(self, embeddings: np.ndarray, labels: Sequence[str], skills: Sequence[str]) -> Self:
        """Nothing is learned of questions; only ``skills`` are told apart from now on."""
        if missing := [s for s in skills if s not in self.skills]:
            raise SkillsError(
                f"No descriptor of {', '.join(missing)}. Add a sentence about it to the taxonomy."
            )
        rows = [self.skills.index(s) for s in skills]
        self.descriptors, self.skills = self.descriptors[rows], tuple(skills)
        return self

    def annotate(self, embeddings: np.ndarray) -> Annotation:
        return self._of(embeddings @ self.descriptors.T)

    def blind(
        self, embeddings: np.ndarray, labels: Sequence[str], groups: np.ndarray | None = None
    ) -> Annotation:
        """Without the descriptors of the skills of a question's group; without itself is as it is,
        since no descriptor was made of questions."""
        similarity = embeddings @ self.descriptors.T
        if groups is not None:
            of_group = {
                g: {s for s, h in zip(labels, groups, strict=True) if h == g}
                for g in dict.fromkeys(groups.tolist())
            }
            hidden = {g: [s in members for s in self.skills] for g, members in of_group.items()}
            similarity[np.array([hidden[g] for g in groups.tolist()])] = -np.inf
        return self._of(similarity)

    def _of(self, similarity: np.ndarray) -> Annotation:
        return Annotation(
            p_skill=softmax(self.sharpness * similarity), novelty=1 - similarity.max(axis=1)
        )

    def state(self) -> Mapping[str, np.ndarray]:
        """Arrays that ``from_state`` rebuilds it from."""
        return {
            "descriptors": self.descriptors,
            "skills": np.array(self.skills),
            "sharpness": np.array(self.sharpness),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        skills = [str(s) for s in state["skills"]]
        return cls(skills, state["descriptors"], sharpness=float(state["sharpness"]))


class NeighbourAnnotator:
    """Similarity-weighted vote of the k nearest labelled questions.

    p(s | x) is proportional to the sum over the k nearest i with skill s of exp(sharpness * cos_i).
    """

    kind: ClassVar[str] = "neighbours"

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
        return Annotation(p_skill=p_skill, novelty=novelty(cosines))

    def blind(
        self, embeddings: np.ndarray, labels: Sequence[str], groups: np.ndarray | None = None
    ) -> Annotation:
        """See ``RouterAnnotator``."""
        return self.annotate(embeddings, leave_out=own_groups(len(embeddings), groups))

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


def novelty(cosines: np.ndarray) -> np.ndarray:
    """(n,) 1 - mean of the ``N_NEAREST`` largest of each row's cosines to known questions."""
    k = min(N_NEAREST, cosines.shape[1])
    top = np.partition(cosines, -k, axis=1)[:, -k:]
    result: np.ndarray = 1 - top.mean(axis=1)
    return result


def own_groups(n: int, groups: np.ndarray | None) -> list[np.ndarray]:
    """For each of n questions the rows of its group; itself alone where there are no groups."""
    if groups is None:
        return [np.array([i]) for i in range(n)]
    return [np.flatnonzero(groups == g) for g in groups]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows of probabilities; -inf is 0, and a row of nothing but -inf is uniform."""
    logits = np.where(np.isfinite(logits).any(axis=1, keepdims=True), logits, 0.0)
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: np.ndarray = exps / exps.sum(axis=1, keepdims=True)
    return result
