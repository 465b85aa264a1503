"""Figures of annotators: right skills, calibration, and what routing by them is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.skills.replay import BEST_SINGLE, TOLD, Said
from eval.statistics import Estimate, Interval, mean_estimate, mean_interval
from routers.calibration import expected_calibration_error
from skills.annotators import CLASSIFIER, DESCRIPTORS, KEYWORDS, NEIGHBOURS

REFERENCE = NEIGHBOURS
"""What the others are paired with: the default."""
LEAST_P = 1e-3
"""Probabilities are not below it in the log loss: a vote of neighbours gives many a skill 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatorFigures:
    """One annotator on one set of questions."""

    annotator: str
    n: int
    skill_accuracy: float
    skill_accuracy_ci: Interval
    category_accuracy: float
    category_accuracy_ci: Interval
    log_loss: float
    """Of the right skill, in nats; probabilities below ``LEAST_P`` count as that."""
    ece: float
    """Of the likeliest skill's probability."""
    general: float
    """Share taken for questions of an unknown skill."""
    usd: float
    """Per question, of annotating alone."""
    ms: float
    """Per question, embedding included; of keywords all passes, in the batches they came in."""
    accuracy: float
    """Of the expert that the router then asks."""
    objective_usd: float
    """Per question, at V."""
    skill_accuracy_gain: Estimate | None
    """Over the reference; None for itself and for what names no skill."""
    objective_usd_saved: Estimate | None
    """Less than the reference's; None for itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Figures on questions with new wordings, and on those of hidden categories."""

    known: tuple[AnnotatorFigures, ...]
    hidden: tuple[AnnotatorFigures, ...]
    fallback_price_usd: float
    n_fit: int


def figures_of(
    said: Mapping[str, Said], truth: Sequence[str], category_of: Mapping[str, str]
) -> tuple[AnnotatorFigures, ...]:
    """Of each annotator, by name; ``truth``: (n,) skills."""
    right_skill = np.array(truth, dtype=object)
    right_category = np.array([category_of[s] for s in truth], dtype=object)
    reference = said[REFERENCE]
    reference_right = (reference.skill == right_skill).astype(float)
    figures = []
    for name in (BEST_SINGLE, NEIGHBOURS, DESCRIPTORS, CLASSIFIER, KEYWORDS, TOLD):
        if name not in said:
            continue
        s = said[name]
        names_skills = bool((s.skill != "").all())
        right = (s.skill == right_skill).astype(float)
        category = np.array([category_of.get(k, "") for k in s.skill], dtype=object)
        in_category = (category == right_category).astype(float)
        nan = float("nan")
        figures.append(
            AnnotatorFigures(
                annotator=name,
                n=len(truth),
                skill_accuracy=float(right.mean()) if names_skills else nan,
                skill_accuracy_ci=mean_interval(right) if names_skills else (nan, nan),
                category_accuracy=float(in_category.mean()) if names_skills else nan,
                category_accuracy_ci=mean_interval(in_category) if names_skills else (nan, nan),
                log_loss=float(0.0 - np.log(np.maximum(s.p_right_skill, LEAST_P)).mean()),
                ece=expected_calibration_error(s.confidence, right) if names_skills else nan,
                general=float(s.is_general.mean()),
                usd=float(s.usd.mean()),
                ms=float(s.ms.mean()),
                accuracy=float(s.correct.mean()),
                objective_usd=float(s.objective_usd.mean()),
                skill_accuracy_gain=mean_estimate(right - reference_right)
                if names_skills and name != REFERENCE
                else None,
                objective_usd_saved=mean_estimate(reference.objective_usd - s.objective_usd)
                if name != REFERENCE
                else None,
            )
        )
    return tuple(figures)
