"""A whole routing experiment: from a pool's outcomes to points, verdict and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from eval.outcomes.matrix import OutcomeMatrix
from eval.routing.embeddings import decision_seconds, embedded
from eval.routing.field_metrics import field_metrics
from eval.routing.points import Point, Sides, sides_of
from eval.routing.policies import all_points
from eval.routing.verdict import Verdict, verdict_object, verdict_of
from orchestrator.config import Config
from routers.estimators import Estimator
from skills.embedders import Embedder


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """What was judged, and how it went."""

    sides: Sides
    points: list[Point]
    verdict: Verdict
    notes: tuple[str, ...]
    """What was left out, and why."""
    decision_usd: float
    """Charged to every policy that decides: seconds of embedding, at the price of the machine."""


def run_experiment(
    matrix: OutcomeMatrix,
    estimators: Mapping[str, Callable[[], Estimator]],
    embedder: Embedder,
    config: Config,
    *,
    priced: bool = True,
    seed: int = 0,
    tell: Callable[[str], None] = lambda what: None,
) -> Experiment:
    """Embeddings are kept in the data folder. Raises DataError as ``sides_of`` does."""
    prompts = [q.prompt for q in matrix.queries]
    tell(f"embedding {len(prompts)} prompts")
    vectors = embedded(prompts, embedder, config.data_dir / "embeddings")
    sides = sides_of(matrix, vectors, priced=priced, seed=seed)
    decision_usd = decision_seconds(embedder, prompts) * config.host_usd_per_s
    notes: list[str] = []
    points = all_points(
        sides, estimators, decision_usd=decision_usd, on_stage=tell, on_note=notes.append
    )
    return Experiment(
        sides=sides,
        points=points,
        verdict=verdict_of(points),
        notes=tuple(notes),
        decision_usd=decision_usd,
    )


def experiment_object(experiment: Experiment) -> dict[str, Any]:
    """What the last line of ``conclave eval routing`` holds; ``eval.json_ready`` finishes it."""
    sides = experiment.sides
    told: dict[str, Any] = {
        "n_models": len(sides.matrix.models),
        "n_dev": len(sides.dev),
        "n_test": len(sides.test),
        "decision_usd": experiment.decision_usd,
        "warnings": [*experiment.notes, *filter(None, [experiment.verdict.few_queries])],
        **verdict_object(experiment.verdict),
    }
    if sides.priced:
        told["field"] = field_metrics(experiment.points, sides.test_matrix)
    return told
