"""The comparison: settings chosen on development, the chosen ones played on test, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eval.outcomes.matrix import OutcomeMatrix
from eval.routing.composing import composed
from eval.routing.embeddings import decision_seconds, embedded
from eval.routing.points import Point, baselines, cheapest_as_good, most_accurate, routed
from eval.routing.verdict import Figures, Paired, figures_of, paired
from eval.strategies.methods import Method, Sight, cannot_be_replayed, methods
from eval.strategies.world import World
from experts.errors import DataError
from orchestrator.config import Config
from routers.plans import Plan
from skills.embedders import Embedder, make_embedder

WORDS = "hashing-512"
"""The embedder of the router that looks at words alone."""
_SHOWN_BASELINES = ("best-single", "best-per-task", "oracle")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A strategy at a setting that was chosen on development, and what came of it."""

    name: str
    pick: str
    """``most right``, or ``as right for less``: the cheapest that is as good as the best single."""
    setting: str
    figures: Figures
    n_calls: float
    """Mean calls a query."""
    against_single: Paired
    against_composition: Paired | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Everything that was found."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    n_dev: int
    n_judged: int
    n_arms: int
    n_samples: int
    side: str
    """``test``, or ``development`` where test was not looked at."""
    decision_usd: float


def compare(
    matrix: OutcomeMatrix,
    embedder: Embedder,
    config: Config,
    *,
    development: bool = False,
    seed: int = 0,
    tell: Callable[[str], None] = lambda what: None,
) -> Comparison:
    """``development``: judge on train and val, blindly, and leave test alone.

    Raises DataError as ``World`` and ``sides_of`` do.
    """
    prompts = [q.prompt for q in matrix.queries]
    tell(f"embedding {len(prompts)} prompts")
    folder = config.data_dir / "embeddings"
    vectors = embedded(prompts, embedder, folder)
    words = embedded(prompts, make_embedder(WORDS), folder)
    world = World(matrix, vectors, words, seed=seed)
    decision_usd = decision_seconds(embedder, prompts) * config.host_usd_per_s
    sides = world.sides
    points = {p.policy: p for p in baselines(sides)}
    single = points["best-single"]
    tell("routing")
    p = world.by_meaning.p_correct
    routing = routed("routing", p[sides.dev], p[sides.test], sides, decision_usd=decision_usd)
    picked = [(name, "-", "-", points[name]) for name in _SHOWN_BASELINES]
    picked += _picks("routing", [(f"V={x.knob:.3g}", x) for x in routing], single)
    notes: list[str] = []
    composition: Point | None = None
    try:
        found = composed(sides, decision_usd=decision_usd, on_stage=tell)
        picks = _picks("composition", [(f"V={x.knob:.3g}", x) for x in found], single)
        composition = picks[0][3]
        picked += picks
    except DataError as error:
        notes.append(f"composition is left out: {error}")
    for method in methods(world.n_samples, len(world.arms)):
        tell(f"{method.name}, {len(method.tried)} settings")
        picked += _of_method(world, method, single, decision_usd, development=development)
        if method.note:
            notes.append(f"{method.name}: {method.note}")
    notes += [
        f"not played: {told}" for told in cannot_be_replayed(world.n_samples, len(world.arms))
    ]
    if development:
        picked = [(name, pick, plan, _blind(point)) for name, pick, plan, point in picked]
        single = _blind(single)
        composition = composition and _blind(composition)
    return Comparison(
        rows=tuple(_row(*one, single, composition) for one in picked),
        notes=tuple(notes),
        n_dev=len(sides.dev),
        n_judged=len(single.test_score),
        n_arms=len(world.arms),
        n_samples=world.n_samples,
        side="development" if development else "test",
        decision_usd=decision_usd,
    )


_Pick = tuple[str, str, str, Point]


def _of_method(
    world: World, method: Method, single: Point, decision_usd: float, *, development: bool
) -> list[_Pick]:
    """Every setting is played on development; those that are picked, and no other, on test."""
    sides, none = world.sides, np.zeros(0)
    tried: list[tuple[str, Point]] = []
    sight_of: dict[str, tuple[Sight, Plan]] = {}
    for sight, plan in method.tried:
        played = world.play(plan, getattr(world, sight), sides.dev)
        setting = str(plan) if sight == "by_meaning" else f"{plan} {sight}"
        sight_of[setting] = sight, plan
        point = Point(
            policy=method.name, knob=np.nan, dev_score=played.score,
            dev_cost=played.cost_usd + decision_usd, test_score=none, test_cost=none,
            test_asked=played.n_calls,
        )  # fmt: skip
        tried.append((setting, point))
    picks = []
    for name, pick, setting, point in _picks(method.name, tried, single):
        if not development:
            sight, plan = sight_of[setting]
            played = world.play(plan, getattr(world, sight), sides.test)
            point = replace(  # noqa: PLW2901
                point, test_score=played.score, test_cost=played.cost_usd + decision_usd,
                test_asked=played.n_calls,
            )  # fmt: skip
        picks.append((name, pick, setting, point))
    return picks


def _picks(name: str, tried: list[tuple[str, Point]], single: Point) -> list[_Pick]:
    """The most accurate setting on development and the cheapest that is as good as the best single
    model there, where that is another; one line where they are the same."""
    points = [point for _, point in tried]
    best, cheap = most_accurate(points), cheapest_as_good([*points, single], single)
    setting_of = {id(point): setting for setting, point in tried}
    found = [(name, "most right", setting_of[id(best)], best)]
    if cheap is not single and cheap is not best:
        found.append((name, "as right for less", setting_of[id(cheap)], cheap))
    return found


def _blind(point: Point) -> Point:
    """A point whose development queries are what it is judged on."""
    asked = point.test_asked
    if len(asked) != len(point.dev_score):  # of test, which is not looked at
        asked = np.full((len(point.dev_score), 1), np.nan)
    return replace(
        point, test_score=point.dev_score, test_cost=point.dev_cost, test_asked=asked, test_p=None
    )


def _row(
    name: str, pick: str, setting: str, point: Point, single: Point, composition: Point | None
) -> Row:
    return Row(
        name=name,
        pick=pick,
        setting=setting,
        figures=figures_of(point),
        n_calls=float(point.test_asked.sum(axis=1).mean()),
        against_single=paired(point, single),
        against_composition=paired(point, composition) if composition else None,
    )


def comparison_object(found: Comparison) -> dict[str, Any]:
    """JSON-ready, but for infinite figures (``eval.json_ready``)."""

    def versus(p: Paired | None) -> dict[str, Any] | None:
        if p is None:
            return None
        return {
            "difference": round(p.difference, 4),
            "ci": [round(x, 4) for x in p.ci],
            "cost_ratio": round(p.cost_ratio, 4),
            "verdict": p.outcome,
        }

    return {
        "judged_on": found.side,
        "n_dev": found.n_dev,
        "n_judged": found.n_judged,
        "n_arms": found.n_arms,
        "n_samples": found.n_samples,
        "decision_usd": found.decision_usd,
        "strategies": [
            {
                "name": row.name,
                "pick": row.pick,
                "setting": row.setting,
                "accuracy": round(row.figures.accuracy, 4),
                "ci": [round(x, 4) for x in row.figures.accuracy_ci],
                "calls": round(row.n_calls, 3),
                "cost_usd_per_1k": row.figures.cost_usd_per_1k,
                "cost_of_pass_usd": row.figures.cost_of_pass_usd,
                "cost_of_pass_ci": list(row.figures.cost_of_pass_ci),
                "objective_usd": {str(v): usd for v, usd in row.figures.objective_usd.items()},
                "against_best_single": versus(row.against_single),
                "against_composition": versus(row.against_composition),
            }
            for row in found.rows
        ],
        "notes": list(found.notes),
    }
