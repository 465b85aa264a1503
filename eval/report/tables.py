"""The report's tables: every chart's values, for who cannot see it, copies it, or doubts it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eval.cost_of_pass.figures import cost_ratio
from eval.report.figures import Believed, ReportFigures
from eval.report.markup import Child, Html, element, joined
from eval.report.writing import (
    DASH,
    dollars,
    dollars_range,
    percent,
    percent_range,
    points,
    points_range,
    price,
    setting,
)
from eval.routing.verdict import Figures

N_RISK_ROWS = 10


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[Child]]) -> Html:
    """A table whose first column names its rows; scrolls by itself where it is too wide."""
    head = element("tr", *(element("th", name, scope="col") for name in header))
    body = [
        element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in rest))
        for first, *rest in rows
    ]
    # The caption stands outside, as wide as the page: the table may be wider.
    return joined(
        element("p", caption, class_="caption"),
        element(
            "div",
            element("table", element("thead", head), element("tbody", *body), aria_label=caption),
            class_="scroll", role="region", tabindex=0, aria_label=f"{caption}; scrolls sideways",
        ),
    )  # fmt: skip


def policy_table(f: ReportFigures) -> Html:
    prices = tuple(f.verdict.best_single.objective_usd)
    picks = [("as good, cheapest: ", f.equal), ("most accurate: ", f.best)]
    rows = [
        *(_policy_row(f"{words}{p.figures.policy}", p.figures) for words, p in picks),
        *(_policy_row(row.policy, row) for row in f.verdict.rows),
    ]
    return table(
        f"Policies on {f.verdict.best_single.n:,} test queries, most accurate first; the two picks "
        "on top. The last columns are dollars per 1000 queries when a wrong answer costs so much.",
        ["policy", "setting V", "accuracy", "95 %", "$ per 1000", "$ per 1000 right", "95 %",
         *(f"V = {price(v)}" for v in prices)],
        rows,
    )  # fmt: skip


def _policy_row(name: str, row: Figures) -> list[Child]:
    return [
        name,
        setting(row.knob),
        percent(row.accuracy),
        percent_range(row.accuracy_ci),
        dollars(row.cost_usd_per_1k),
        dollars(row.cost_of_pass_usd * 1000),
        dollars_range((row.cost_of_pass_ci[0] * 1000, row.cost_of_pass_ci[1] * 1000)),
        *(dollars(v * 1000) for v in row.objective_usd.values()),
    ]


def frontier_table(f: ReportFigures) -> Html:
    rows: list[list[Child]] = []
    for curve in f.curves:
        for cost, accuracy, knob in zip(
            curve.cost_usd_per_1k, curve.accuracy, curve.knob, strict=True
        ):
            rows.append([curve.policy, setting(knob), dollars(cost), percent(accuracy)])
    rows += [[m.model, "alone", dollars(m.cost_usd_per_1k), percent(m.accuracy)] for m in f.models]
    return table(
        "Settings on each policy's development hull, and models alone, judged on test",
        ["policy or model", "setting V", "$ per 1000", "accuracy"],
        rows,
    )


def objective_table(f: ReportFigures) -> Html:
    prices = tuple(f.verdict.best_single.objective_usd)
    single = f.objective_table["best-single"]
    ordered = sorted(f.objective_table.items(), key=lambda item: item[1][prices[-1]])
    return table(
        "Dollars per 1000 queries with failures at V, each policy at its best setting for V; in "
        "brackets, relative to the best single model",
        ["policy", *(f"V = {price(v)}" for v in prices)],
        [
            [
                name,
                *(
                    f"{dollars(of[v])} ({percent(float(cost_ratio(of[v], single[v])), digits=0)})"
                    for v in prices
                ),
            ]
            for name, of in ordered
        ],
    )  # fmt: skip


def task_table(f: ReportFigures) -> Html:
    policy = f.shipped.figures.policy
    return table(
        f"Accuracy by task of {policy} (most accurate setting), {f.best_model}, and the best model "
        "for every query; regret in points",
        ["task", "queries", policy, f.best_model, "best for every query", f"regret of {policy}",
         "95 %", f"regret of {f.best_model}"],
        [
            [
                t.task, t.n, percent(t.policy), percent(t.single), percent(t.best_possible),
                points(t.policy_regret), points_range(t.policy_regret_ci), points(t.single_regret),
            ]
            for t in f.tasks
        ],
    )  # fmt: skip


def expert_table(f: ReportFigures) -> Html:
    return table(
        "Models: alone, in the two picks, and what is lost without them",
        ["model", "accuracy alone", "$ per 1000", "alone right on", "asked (most accurate)",
         "asked (as good, cheapest)", "share of dollars (most accurate)",
         f"rise of total cost without it, V = {price(f.break_even_usd)}", "95 %",
         "points lost without it, any price", "95 %"],
        [
            [
                m.model, percent(m.accuracy), dollars(m.cost_usd_per_1k), percent(m.only_right),
                percent(m.asked_best), percent(m.asked_equal), percent(m.dollars_best),
                *(
                    [DASH] * 4
                    if m.objective_rise is None or m.accuracy_loss is None
                    else [
                        percent(m.objective_rise), percent_range(m.objective_rise_ci),
                        points(m.accuracy_loss), points_range(m.accuracy_loss_ci),
                    ]
                ),
            ]
            for m in f.models
        ],
    )  # fmt: skip


def reliability_table(b: Believed) -> Html:
    return table(
        f"What {b.policy} promised and what came, in bins of equal width",
        ["promised, mean", "observed", "queries"],
        [[percent(bin_.predicted), percent(bin_.observed), bin_.n] for bin_ in b.bins],
    )


def risk_table(b: Believed) -> Html:
    n = len(b.risk)
    rows = sorted({max(0, round(n * k / N_RISK_ROWS) - 1) for k in range(1, N_RISK_ROWS + 1)})
    return table(
        f"Share wrong when {b.policy} answers only what it is surest of",
        ["answered", "wrong among these"],
        [[percent(b.coverage[i]), percent(b.risk[i])] for i in rows],
    )
