"""Annotators replayed: what each says of questions, whom the router then asks, what that brings.

Nobody is asked here: answers and prices are the recorded ones. Beside the annotators stand the
skill as it was told and the best single expert.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.skills.questions import Questions
from experts.cards import Prices
from experts.expert import Pool
from experts.values import Arm
from orchestrator.keywords import FAR, KeywordLabels
from routers.category import CategoryRouter
from skills.annotate import Annotation, DescriptorAnnotator
from skills.annotators import DESCRIPTORS
from skills.embedders import Embedder
from skills.taxonomy import Taxonomy

TOLD, BEST_SINGLE = "told", "best-single"


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What became of each of n questions."""

    skill: np.ndarray
    """(n,) likeliest skill by name; empty where none is said."""
    p_right_skill: np.ndarray
    confidence: np.ndarray
    is_general: np.ndarray
    usd: np.ndarray
    ms: np.ndarray
    correct: np.ndarray
    """(n,) of the expert asked, in [0, 1]."""
    objective_usd: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Routers of one pool, fitted on some of the questions and played on others."""

    pool: Pool
    taxonomy: Taxonomy
    embedder: Embedder
    fallback_price_usd: float
    fit: Questions

    @property
    def prices(self) -> Mapping[Arm, Prices]:
        return {arm: card.prices for card in self.pool.cards for arm in card.arms}

    @property
    def descriptors(self) -> Mapping[str, np.ndarray]:
        vectors = self.embedder.embed([s.description for s in self.taxonomy.skills])
        return dict(zip(self.taxonomy.names, vectors, strict=True))

    def router(self, kind: str, rows: np.ndarray) -> CategoryRouter:
        """Fitted on some of the questions."""
        known = self.fit[rows]
        router = CategoryRouter(
            self.taxonomy.category_of, self.prices, annotator=kind, descriptors=self.descriptors
        )
        return router.fit(known.features, known.outcomes)

    def routed(self, router: CategoryRouter, asked: Questions, embed_ms: float) -> Said:
        embeddings = asked.features.embeddings
        started = time.perf_counter()
        for i in range(len(embeddings)):
            router.annotator_.annotate(embeddings[i : i + 1])
        ms = 1000 * (time.perf_counter() - started) / len(embeddings)
        annotation, is_general = router.annotate(embeddings)
        named, skills = annotation, router.annotator_.skills
        if router.annotator == DESCRIPTORS:  # it knows the skills that nobody was ever asked for
            whole = self.descriptors
            everything = DescriptorAnnotator(list(whole), np.array(list(whole.values())))
            named, skills = everything.annotate(embeddings), everything.skills
        usd = np.zeros(len(embeddings))
        return self._said(router, asked, annotation, is_general, named, skills, usd, embed_ms + ms)

    def by_keywords(
        self, router: CategoryRouter, asked: Questions, labels: KeywordLabels, embed_ms: float
    ) -> Said:
        """As the first step of an answer (``Conclave``): keywords replace the router's own
        annotation where they say something that it may believe."""
        annotation, is_general = router.annotate(asked.features.embeddings)
        columns = [self.taxonomy.names.index(s) for s in router.annotator_.skills]
        of_router = labels.annotation.p_skill[:, columns]
        of_router = of_router / of_router.sum(axis=1, keepdims=True)
        novelty = labels.annotation.novelty
        says = (novelty < 2) & ~(is_general & (novelty > FAR))
        mixed = Annotation(
            p_skill=np.where(says[:, None], of_router, annotation.p_skill),
            novelty=annotation.novelty,
        )
        ms = embed_ms + 1000 * labels.latency_s
        return self._said(
            router, asked, mixed, is_general & ~says, labels.annotation, self.taxonomy.names,
            labels.spent_usd, ms,
        )  # fmt: skip

    def without_annotator(self, router: CategoryRouter, asked: Questions) -> dict[str, Said]:
        """The skill as it was told, where the router knows it, and the best single expert."""
        n, skills = len(asked.queries), router.annotator_.skills
        free, unsaid = np.zeros(n), np.zeros((n, 0))
        nothing = Annotation(p_skill=unsaid, novelty=free)
        worth_usd = router.profiles_.overall() * self.fallback_price_usd
        best = int((worth_usd - self.fit.cost_usd.mean(axis=0)).argmax())
        single = self._played(asked, np.full(n, best), nothing, (), np.zeros(n, bool), free, free)
        if any(s not in skills for s in asked.outcomes.skills):
            return {BEST_SINGLE: single}
        one_hot = np.eye(len(skills))[[skills.index(s) for s in asked.outcomes.skills]]
        told = Annotation(p_skill=one_hot, novelty=free)
        said = self._said(router, asked, told, np.zeros(n, bool), told, skills, free, free)
        return {TOLD: said, BEST_SINGLE: single}

    def _said(
        self,
        router: CategoryRouter,
        asked: Questions,
        annotation: Annotation,
        is_general: np.ndarray,
        named: Annotation,
        skills: Sequence[str],
        usd: np.ndarray,
        ms: np.ndarray | float,
    ) -> Said:
        scores = router.score_annotated(annotation, is_general, asked.features.n_chars)
        chosen = (scores.cost_usd + (1 - scores.p_correct) * self.fallback_price_usd).argmin(axis=1)
        return self._played(asked, chosen, named, skills, is_general, usd, ms)

    def _played(
        self,
        asked: Questions,
        chosen: np.ndarray,
        named: Annotation,
        skills: Sequence[str],
        is_general: np.ndarray,
        usd: np.ndarray,
        ms: np.ndarray | float,
    ) -> Said:
        n = len(asked.queries)
        rows = np.arange(n)
        correct = asked.outcomes.scores[rows, chosen]
        cost_usd = asked.cost_usd[rows, chosen] + usd
        truth = asked.outcomes.skills
        p = np.full(n, np.nan)
        skill, confidence = np.array([""] * n, dtype=object), np.full(n, np.nan)
        if len(skills):
            skill = np.array(skills, dtype=object)[named.p_skill.argmax(axis=1)]
            confidence = named.p_skill.max(axis=1)
            index = {s: j for j, s in enumerate(skills)}
            p = np.array(
                [named.p_skill[i, index[s]] if s in index else 0.0 for i, s in enumerate(truth)]
            )
        return Said(
            skill=skill, p_right_skill=p, confidence=confidence, is_general=is_general, usd=usd,
            ms=np.broadcast_to(ms, n), correct=correct,
            objective_usd=cost_usd + (1 - correct) * self.fallback_price_usd,
        )  # fmt: skip


def joined(parts: Sequence[tuple[np.ndarray, Said]]) -> Said:
    """Parts that cover all rows, in the rows' order."""
    order = np.argsort(np.concatenate([rows for rows, _ in parts]), kind="stable")
    fields = {
        name: np.concatenate([getattr(said, name) for _, said in parts])[order]
        for name in Said.__slots__
    }
    return Said(**fields)


def rows_of(labels: KeywordLabels, rows: np.ndarray) -> KeywordLabels:
    """Labels of some of the questions."""
    annotation = labels.annotation
    return KeywordLabels(
        annotation=Annotation(
            p_skill=annotation.p_skill[rows], novelty=annotation.novelty[rows]
        ),
        keywords=[labels.keywords[int(i)] for i in rows],
        n_asked=labels.n_asked,
        cost_usd=labels.cost_usd,
        latency_s=labels.latency_s[rows],
        spent_usd=labels.spent_usd[rows],
    )  # fmt: skip
