"""What strategies brought, at each price of a failure: figures, and the policy beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eval.benchmarks.strategies_menu import Family
from eval.benchmarks.strategies_play import Played
from eval.benchmarks.strategies_questions import KINDS, Drawn
from eval.cost_of_pass.figures import PolicyFigures, policy_figures
from eval.statistics import Estimate, mean_estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A strategy's figures at one price of a failure."""

    name: str
    setting: str
    role: str
    """``policy``, ``baseline``, ``ceiling``, ``strategy`` or ``aggregator``."""
    figures: PolicyFigures
    by_kind: Mapping[str, float]
    """Accuracy on each."""
    n_calls: float
    """Mean of a question."""
    n_failed: float
    """Mean of a question."""
    seconds: float
    """Mean of a question."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Against:
    """The default policy beside a fixed strategy, question by question."""

    name: str
    role: str
    setting: str
    gain_usd: Estimate
    """Mean objective of the fixed strategy less the default's: above 0, the default is better."""

    @property
    def is_beaten(self) -> bool:
        """The default is worse, and that is no luck of these questions."""
        return self.gain_usd.ci[1] < 0


@dataclass(frozen=True, kw_only=True, slots=True)
class AtPrice:
    """All that was found at one price of a failure."""

    policy: str
    fallback_price_usd: float
    rows: tuple[Row, ...]
    against: tuple[Against, ...]

    @property
    def beaten_by(self) -> tuple[Against, ...]:
        return tuple(a for a in self.against if a.is_beaten)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Figures at each policy's price of a failure; the first policy is the default."""

    n: Mapping[str, int]
    """Questions of each kind."""
    n_val: int
    n_experts: int
    seed: int
    prices: tuple[AtPrice, ...]
    not_played: tuple[str, ...]

    @property
    def is_never_beaten(self) -> bool:
        return not any(price.beaten_by for price in self.prices)

    @property
    def notes(self) -> tuple[str, ...]:
        """Who beats the default policy, at which price, and by how much."""
        beaten = [
            f"{at.policy} (V = {at.fallback_price_usd:g} $) is beaten by the {a.role} {a.name}, "
            f"{a.setting}: {-a.gain_usd.value * 1000:.3g} $ less in 1000 questions "
            f"({-a.gain_usd.ci[1] * 1000:.3g} to {-a.gain_usd.ci[0] * 1000:.3g})"
            for at in self.prices
            for a in at.beaten_by
        ]
        return tuple(beaten) or ("no fixed strategy beats the policy that chooses",)


def row_of(name: str, setting: str, role: str, played: Played, drawn: Drawn, *, seed: int) -> Row:
    """Of one strategy on all questions."""
    by_kind = {k: float(played.score[r].mean()) for k in KINDS if len(r := drawn.rows(k))}
    return Row(
        name=name,
        setting=setting,
        role=role,
        figures=policy_figures(
            name, played.score, played.cost_usd, float(played.seconds.sum()), seed=seed
        ),
        by_kind=by_kind,
        n_calls=float(played.n_calls.mean()),
        n_failed=float(played.n_failed.mean()),
        seconds=float(played.seconds.mean()),
    )


def against_of(
    family: Family, setting: str, fixed: Played, default: Played, price_usd: float, *, seed: int
) -> Against:
    """On the same questions."""
    gap = fixed.objective(price_usd) - default.objective(price_usd)
    return Against(
        name=family.name,
        role=family.role,
        setting=setting,
        gain_usd=mean_estimate(gap, seed=seed),
    )


def report_object(report: Report) -> dict[str, Any]:
    """JSON-ready, but for infinite figures (``eval.json_ready``)."""

    def row(r: Row) -> dict[str, Any]:
        f = r.figures
        return {
            "name": r.name,
            "setting": r.setting,
            "role": r.role,
            "n": f.n,
            "accuracy": round(f.accuracy, 4),
            "ci": [round(x, 4) for x in f.accuracy_ci],
            "by_kind": {kind: round(x, 4) for kind, x in r.by_kind.items()},
            "calls": round(r.n_calls, 3),
            "failed": round(r.n_failed, 3),
            "cost_usd_per_1k": f.cost_usd_per_1k,
            "cost_of_pass_usd": f.cost_of_pass_usd,
            "cost_of_pass_ci": list(f.cost_of_pass_ci),
            "seconds": r.seconds,
        }

    return {
        "seed": report.seed,
        "n": dict(report.n),
        "n_val": report.n_val,
        "n_experts": report.n_experts,
        "never_beaten": report.is_never_beaten,
        "prices": [
            {
                "policy": at.policy,
                "fallback_price_usd": at.fallback_price_usd,
                "rows": [row(r) for r in at.rows],
                "against_default": [
                    {
                        "name": a.name,
                        "role": a.role,
                        "setting": a.setting,
                        "gain_usd": a.gain_usd.value,
                        "ci_usd": list(a.gain_usd.ci),
                        "beats_default": a.is_beaten,
                    }
                    for a in at.against
                ],
            }
            for at in report.prices
        ],
        "notes": [*report.notes, *report.not_played],
    }
