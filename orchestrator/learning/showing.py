"""What was learned, for people and monitors: rates, drift, refits, what exploring has cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.learning.learner import LearnedRate

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.conclave import Conclave


def learning_facts(conclave: Conclave) -> dict[str, Any]:
    """JSON-ready."""
    learner, explorer = conclave.learner, conclave.explorer
    told: dict[str, Any] = {"fitted": learner is not None}
    if learner is not None:
        told |= learner.facts()
        told["rates"] = [_rate(r) for r in learner.rates()]
    told["exploration"] = {
        "spent_today_usd": explorer.ledger.explored_usd(since_s=explorer.since_s),
        "usd_per_day": explorer.settings.usd_per_day,
        "share": explorer.settings.share,
    }
    return told


def _rate(rate: LearnedRate) -> dict[str, Any]:
    return {
        "arm": str(rate.arm),
        "skill": rate.skill,
        "recent": round(rate.recent, 4),
        "fitted": round(rate.fitted, 4),
        "n": round(rate.n, 2),
        "interval": [round(x, 4) for x in rate.interval],
        "shift": round(rate.shift, 4),
        "drift": rate.drift,
    }


def format_rates(facts: Mapping[str, Any]) -> Table:
    """A row for each arm with outcomes since the fit, and below it one for each skill."""
    from rich.table import Table

    table = Table(
        "expert", "skill", "recent", "95 %", "fitted", "n", "log-odds", "drift",
        title=f"Outcomes since the fit: {facts.get('n_outcomes', 0)}",
        caption="recent: discounted, and so is n; fitted: what was expected of the same questions; "
        "log-odds: what is added to those of P(right)",
    )  # fmt: skip
    rates: Sequence[Mapping[str, Any]] = facts.get("rates", ())
    for r in rates:
        whole = r["skill"] is None
        table.add_row(
            r["arm"] if whole else "", "(all)" if whole else r["skill"], f"{r['recent']:.0%}",
            "{:.0%}-{:.0%}".format(*r["interval"]), f"{r['fitted']:.0%}", f"{r['n']:.1f}",
            f"{r['shift']:+.2f}", f"[red]{r['drift']}[/red]" if r["drift"] else "",
        )  # fmt: skip
    return table
