"""Category routing in two steps: which skill does the question need, and who is good at it.

Labels of the best expert per question are noise; labels of its category can be learned
(Composition of Experts, arXiv:2412.01868: R(x) = M(C(x))). Step one is an annotator, a neighbour
vote over questions of known skill unless another is chosen; step two is the skill profile of each
arm. A question unlike all that is known, or torn between categories, is *general*: it gets the
beliefs about questions of an unknown skill, and its bars are set by pretending, category by
category, not to know one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

import numpy as np

from experts.cards import Prices
from experts.errors import NotFitted
from experts.values import Arm
from routers.calibration import Calibrator
from routers.costs import CostModel
from routers.outcomes import Features, Outcomes
from routers.scores import Scores
from skills.annotate import Annotation, RouterAnnotator
from skills.annotators import NEIGHBOURS, annotator_from_state, make_annotator
from skills.profiles import SkillProfiles

N_FOLDS = 5
MAX_FALSE_GENERAL = 0.02
"""A known question that is taken for a general one loses its specialist; an unknown one that is
not is asked of the wrong specialist. The first is the traffic, so it sets the bar."""
_DOUBTS = np.append(np.linspace(0.3, 0.98, 35), 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Beliefs:
    """What every decision needs of the profiles, worked out once."""

    mean: np.ndarray
    """(n_skills, n_arms)."""
    second_moment: np.ndarray
    """(n_skills, n_arms)."""
    general: np.ndarray
    """(n_arms,) of a question of an unknown skill."""
    general_sd: np.ndarray
    """(n_arms,) the mean over skills, as unsure as skills differ."""
    members: np.ndarray
    """(n_skills, n_categories) of 0 and 1."""

    @classmethod
    def of(cls, profiles: SkillProfiles) -> Self:
        mean, sd = profiles.posterior()
        names = list(dict.fromkeys(profiles.categories))
        return cls(
            mean=mean.T,
            second_moment=(sd**2 + mean**2).T,
            general=profiles.overall(),
            general_sd=np.sqrt((sd**2).mean(axis=1) + mean.var(axis=1)),
            members=np.array([[c == name for name in names] for c in profiles.categories], float),
        )


class CategoryRouter:
    """See the module. ``category_of`` maps skills to categories; ``prices`` go with the arms.

    annotator: see ``skills.annotators``; descriptors: unit vectors by skill, for the one that
    compares with them.
    """

    def __init__(
        self,
        category_of: Mapping[str, str],
        prices: Mapping[Arm, Prices],
        *,
        annotator: str = NEIGHBOURS,
        descriptors: Mapping[str, np.ndarray] = MappingProxyType({}),
        prior_strength: float = 4.0,
        calibrate: bool = True,
    ) -> None:
        self.category_of, self.prices = category_of, prices
        self.annotator, self.descriptors = annotator, descriptors
        self.prior_strength, self.calibrate = prior_strength, calibrate
        self._bars: tuple[float, float] | None = None

    def fit(self, features: Features, outcomes: Outcomes) -> Self:
        skills = tuple(dict.fromkeys(outcomes.skills))
        self.arms_ = outcomes.arms
        self.annotator_: RouterAnnotator = make_annotator(self.annotator, self.descriptors).fit(
            features.embeddings, outcomes.skills, skills
        )
        self.profiles_ = SkillProfiles.from_outcomes(
            [str(a) for a in outcomes.arms],
            skills,
            self.category_of,
            outcomes.skills,
            outcomes.scores,
            prior_strength=self.prior_strength,
        )
        self._beliefs_ = _Beliefs.of(self.profiles_)
        self.costs_ = CostModel.fit(features, outcomes, skills)
        bars = self._bars or self._general_bars(features, outcomes.skills)
        self.max_novelty_, self.max_doubt_ = bars
        self.calibrator_ = Calibrator()
        if self.calibrate:
            blind = cross_fit(self._uncalibrated(), features, outcomes, fold_rows(len(outcomes)))
            self.calibrator_ = Calibrator.fit(blind.p_correct.ravel(), outcomes.scores.ravel())
        return self

    def score(self, features: Features) -> Scores:
        if not hasattr(self, "profiles_"):
            raise NotFitted("CategoryRouter.score was called before fit.")
        return self.score_annotated(*self.annotate(features.embeddings), features.n_chars)

    def annotate(self, embeddings: np.ndarray) -> tuple[Annotation, np.ndarray]:
        """Step one: which skills, and (n_queries,) whether the question is a general one."""
        annotation = self.annotator_.annotate(embeddings)
        return annotation, self._is_general(annotation)

    def score_annotated(
        self, annotation: Annotation, is_general: np.ndarray, n_chars: np.ndarray
    ) -> Scores:
        """Step two, for an annotation from wherever; its skills are those of the router."""
        beliefs = self._beliefs_
        p = annotation.p_skill @ beliefs.mean
        # Two sources of doubt: the rate of each skill, and which skill it is.
        variance = annotation.p_skill @ beliefs.second_moment - p**2
        sd_raw = np.sqrt(np.maximum(variance, 0))
        apply = self.calibrator_.apply
        spread = (apply(np.minimum(p + sd_raw, 1)) - apply(np.maximum(p - sd_raw, 0))) / 2
        p = apply(p)
        p[is_general], spread[is_general] = beliefs.general, beliefs.general_sd
        prices = [self.prices[arm] for arm in self.arms_]
        cost_usd, latency_s = self.costs_.expect(n_chars, annotation.p_skill, prices)
        return Scores(
            arms=self.arms_,
            p_correct=p,
            sd=spread,
            cost_usd=cost_usd,
            latency_s=latency_s,
            novelty=annotation.novelty,
            is_general=is_general,
            skills=self.annotator_.skills,
            p_skill=annotation.p_skill,
        )

    def _uncalibrated(self) -> CategoryRouter:
        """For the folds that calibration is fitted on. They keep this one's bars: to set bars, a
        classifier is fitted once a category."""
        router = CategoryRouter(
            self.category_of,
            self.prices,
            annotator=self.annotator,
            descriptors=self.descriptors,
            prior_strength=self.prior_strength,
            calibrate=False,
        )
        router._bars = self.max_novelty_, self.max_doubt_
        return router

    def _doubt(self, annotation: Annotation) -> np.ndarray:
        """(n,) 1 - probability of the likeliest category."""
        doubt: np.ndarray = 1 - (annotation.p_skill @ self._beliefs_.members).max(axis=1)
        return doubt

    def _is_general(self, annotation: Annotation) -> np.ndarray:
        novel = annotation.novelty > self.max_novelty_
        general: np.ndarray = novel | (self._doubt(annotation) > self.max_doubt_)
        return general

    def _general_bars(self, features: Features, skills: Sequence[str]) -> tuple[float, float]:
        """Bars on novelty and doubt: catch as many questions of an unknown category as is possible
        while at most ``MAX_FALSE_GENERAL`` of the known ones are taken for such.

        Each question is annotated twice, without itself and without its whole category.
        """
        categories = np.array([self.category_of[s] for s in skills])
        if len(set(categories)) < 2:
            return 2.0, 1.0  # nothing to tell apart: never general
        known = self.annotator_.blind(features.embeddings, skills)
        strange = self.annotator_.blind(features.embeddings, skills, categories)
        doubt_known, doubt_strange = self._doubt(known), self._doubt(strange)
        seen = np.concatenate([known.novelty, strange.novelty])
        seen = seen[np.isfinite(seen)]  # nobody is near where nobody else is left
        novelties = np.quantile(seen, np.linspace(0.4, 1, 61)) if len(seen) else []
        tried = []
        for novelty in novelties:
            for doubt in _DOUBTS:
                lost = (known.novelty > novelty) | (doubt_known > doubt)
                caught = (strange.novelty > novelty) | (doubt_strange > doubt)
                if lost.mean() <= MAX_FALSE_GENERAL:
                    tried.append((float(caught.mean()), float(novelty), float(doubt)))
        if not tried:
            return 2.0, 1.0
        best = [t for t in tried if t[0] == max(tried)[0]]
        # Among bars that are equally good the middle one leaves room on both sides.
        return best[len(best) // 2][1:]

    def state(self) -> dict[str, np.ndarray]:
        """Arrays that ``load_state`` rebuilds the fitted router from."""
        parts = {
            "annotator": self.annotator_.state(),
            "costs": self.costs_.state(),
            "router": {
                "annotator": np.array(self.annotator_.kind),
                "arms": np.array([str(a) for a in self.arms_]),
                "successes": self.profiles_.successes,
                "trials": self.profiles_.trials,
                "bars": np.array([self.max_novelty_, self.max_doubt_]),
                "prior_strength": np.array(self.prior_strength),
                "knots": np.array([self.calibrator_.knots_x, self.calibrator_.knots_y]),
            },
        }
        return {f"{part}.{k}": v for part, arrays in parts.items() for k, v in arrays.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> Self:
        """Take over what ``state`` gave."""

        def part(name: str) -> dict[str, np.ndarray]:
            return {k.partition(".")[2]: v for k, v in state.items() if k.startswith(f"{name}.")}

        own = part("router")
        self.arms_ = tuple(Arm.parse(str(a)) for a in own["arms"])
        self.annotator = str(own["annotator"])
        self.annotator_ = annotator_from_state(self.annotator, part("annotator"))
        self.costs_ = CostModel.from_state(part("costs"))
        skills = self.annotator_.skills
        self.profiles_ = SkillProfiles(
            arms=tuple(str(a) for a in own["arms"]),
            skills=skills,
            categories=tuple(self.category_of[s] for s in skills),
            successes=own["successes"],
            trials=own["trials"],
            prior_strength=float(own["prior_strength"]),
        )
        self._beliefs_ = _Beliefs.of(self.profiles_)
        self.max_novelty_, self.max_doubt_ = (float(v) for v in own["bars"])
        x, y = own["knots"]
        self.calibrator_ = Calibrator(tuple(float(v) for v in x), tuple(float(v) for v in y))
        return self


def fold_rows(n: int, n_folds: int = N_FOLDS) -> list[np.ndarray]:
    """Rows of each fold; every n-th row, so that no seed decides the split."""
    return [np.arange(f, n, n_folds) for f in range(min(n_folds, n))]


def cross_fit(
    router: CategoryRouter, features: Features, outcomes: Outcomes, folds: Sequence[np.ndarray]
) -> Scores:
    """Scores of every query by a router that was fitted without its fold.

    Folds cover all rows. The result's skills are those of the whole; a fold whose skills were all
    hidden has no probability for them, which is what leaving a category out means.
    """
    skills = tuple(dict.fromkeys(outcomes.skills))
    shape = len(outcomes), len(outcomes.arms)
    p, sd, cost, latency = (np.zeros(shape) for _ in range(4))
    novelty, general = np.zeros(len(outcomes)), np.zeros(len(outcomes), bool)
    p_skill = np.zeros((len(outcomes), len(skills)))
    for rows in folds:
        rest = np.setdiff1d(np.arange(len(outcomes)), rows)
        scores = router.fit(features[rest], outcomes[rest]).score(features[rows])
        p[rows], sd[rows], cost[rows] = scores.p_correct, scores.sd, scores.cost_usd
        latency[rows], novelty[rows], general[rows] = (
            scores.latency_s,
            scores.novelty,
            scores.is_general,
        )
        columns = np.array([skills.index(s) for s in scores.skills])
        p_skill[np.ix_(rows, columns)] = scores.p_skill
    return Scores(
        arms=outcomes.arms,
        p_correct=p,
        sd=sd,
        cost_usd=cost,
        latency_s=latency,
        novelty=novelty,
        is_general=general,
        skills=skills,
        p_skill=p_skill,
    )
