"""How an experiment was made: the report's last section, for who wants to make it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from eval.report.figures import ReportFigures
from eval.report.markup import Child, Html, element
from eval.report.parts import section


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """How an experiment was made."""

    data: str
    """Name of the data, as its owner calls it."""
    pool: str | None
    """The named pool; None for all well-covered models."""
    routers: Sequence[str]
    embedder: str
    seed: int
    n_dev: int
    n_test: int
    n_tasks: int
    version: str
    day: date


def how_made(f: ReportFigures, made: Made) -> Html:
    facts: list[tuple[str, Child]] = [
        ("data", made.data),
        ("pool", f"{made.pool or 'all well-covered models'}: "
                 f"{', '.join(sorted(m.model for m in f.models))}"),
        ("queries", f"{made.n_dev:,} development (train and val), {made.n_test:,} test, "
                    f"{made.n_tasks:,} tasks; only queries that every model answered"),
        ("routers", ", ".join(made.routers)),
        ("embedder", made.embedder),
        ("seed", str(made.seed)),
        ("made with", f"Conclave {made.version}, {made.day.isoformat()}"),
    ]  # fmt: skip
    notes = [
        "Nothing was asked anew: recorded answers were replayed, and every call that a policy "
        "makes is charged at its recorded cost. Latency and failures of providers are not in it.",
        "Every choice was made on the development queries: which model is best, each router's "
        "training, a composition's sequence and stopping rule, the two picks, and the setting at "
        "each price. Development scores are predicted blind, by five folds.",
        "The test queries were scored once, with all choices made. Every policy's curve is shown "
        "there, but none was picked by it; the tables by task and by model describe the picks.",
        "The cheapest setting that is as good was picked with half a standard error to spare, "
        "since the winner of many is lucky. Intervals are for one figure each, by bootstrap over "
        "test queries; they do not cover another choice of models or tasks, or another training.",
        "Costs are those that the data record. Where its source estimated them from lengths and "
        "list prices, they are good for ratios, not for bills. The router's own work is not "
        "charged.",
        "The oracle, the best model per task and the regret are told what no router can know, and "
        "the oracle also collects luck: with many models, one of them guesses right.",
    ]
    return section(
        "made",
        "How this was made",
        element("dl", *(element("div", element("dt", k), element("dd", v)) for k, v in facts)),
        element("ul", *(element("li", note) for note in notes), class_="notes"),
    )
