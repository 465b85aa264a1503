"""Sections of the report about models: whom policies ask, and how far confidence is right."""

from __future__ import annotations

from eval.report import charts
from eval.report.figures import Believed, ReportFigures
from eval.report.markup import Html, element
from eval.report.parts import cut, details, figure, legend, section
from eval.report.tables import expert_table, reliability_table, risk_table
from eval.report.writing import percent, points, price

HARDLY_ASKED = 0.005
"""Share of the queries below which a model is not in the chart of who is asked."""


def experts(f: ReportFigures) -> Html:
    asked = [m for m in f.models if max(m.asked_best, m.asked_equal) >= HARDLY_ASKED]
    by_share = sorted(asked, key=lambda m: -m.asked_best)
    others = len(f.models) - len(asked)
    unasked = f" {others} models that are hardly ever asked are left out." if others > 1 else ""
    shares = [
        (
            m.model,
            [
                charts.Mark(value=m.asked_best, class_="composition", stem=True,
                            tip=f"{m.model}: asked on {percent(m.asked_best)} of the queries at "
                                "the most accurate setting"),
                charts.Mark(value=m.asked_equal, class_="router", stem=True,
                            tip=f"{m.model}: asked on {percent(m.asked_equal)} of the queries at "
                                "the cheapest setting that is as good"),
            ],
        )
        for m in by_share
    ]  # fmt: skip
    parts: list[Html] = [
        element(
            "p",
            "Whom the two picked policies ask. A composition may ask several models a query, so "
            f"shares may add up to more than 100 %.{unasked} {cut(len(asked), 'models')}",
        ),
        legend([("composition", "most accurate pick", True),
                 ("router", "as good, cheapest", True)]),
        figure(
            "Share of the queries on which each model is asked",
            lambda width: charts.by_row(
                shares, width, x_label="share of the test queries", scale=(0.0, 1.0),
                label="Shares of queries by model; values are in the table below.",
            ),
        ),
    ]  # fmt: skip
    valued = [m for m in f.models if m.objective_rise is not None and m.accuracy_loss is not None]
    if valued:
        parts += [
            element("h3", "What a model is worth by being there"),
            element(
                "p",
                "Take one model away and route the same queries again: by the same beliefs (the "
                "ensemble of routers that composition starts from, not fitted anew), each query to "
                "the model with the most P(right) − cost / V. The rise of the total cost, or the "
                "loss of accuracy, is what the model was worth to a router that asks one model a "
                "query; to a composition, whose votes can stand in for each other, it may be worth "
                "more or less. Negative: the router would do better without it.",
            ),
            element(
                "div",
                _value_of_models(f, by_accuracy=False),
                _value_of_models(f, by_accuracy=True),
                class_="pair",
            ),
        ]
    return section("experts", "Whom it asks", *parts, details("Models as a table", expert_table(f)))


def _value_of_models(f: ReportFigures, *, by_accuracy: bool) -> Html:
    rows = []
    for m in f.models:
        value = m.accuracy_loss if by_accuracy else m.objective_rise
        ci = m.accuracy_loss_ci if by_accuracy else m.objective_rise_ci
        if value is None:
            continue
        told = f"{points(value)} points" if by_accuracy else percent(value)
        rows.append(
            (
                m.model,
                [charts.Mark(value=value, class_="router", ci=ci, tip=f"{m.model}: {told}")],
            )
        )
    text = (
        "Accuracy lost without it, where dollars do not matter"
        if by_accuracy
        else f"Rise of the total cost without it, at V = {price(f.break_even_usd)}"
    )
    return figure(
        text,
        lambda width: charts.by_row(
            rows, min(width, 430), x_label="points of accuracy" if by_accuracy else "rise",
            label=f"{text}; values are in the table below.", share=not by_accuracy,
        ),
        one_size=charts.NARROW_PX,
    )  # fmt: skip


def believed(b: Believed) -> Html:
    return section(
        "belief",
        "Can its confidence be believed?",
        element(
            "p",
            f"At its most accurate setting, {b.policy} says of every answer how likely it is "
            "right. The first chart: what was promised against what came (dots on the diagonal are "
            "ideal; a dot's area is the number of queries, its line the 95 % interval); expected "
            f"calibration error {b.ece:.3f}. The second: how much is wrong when only the "
            f"answers that it is surest of are given: area under the curve {b.aurc:.3f}, where "
            f"perfect knowledge (dashed) has {b.aurc_ideal:.3f} and a coin {b.risk[-1]:.3f}.",
        ),
        element(
            "div",
            figure(
                f"Reliability, ECE {b.ece:.3f}",
                lambda width: charts.reliability_diagram(b, width),
                one_size=charts.NARROW_PX,
            ),
            figure(
                f"Risk and coverage, AURC {b.aurc:.3f}",
                lambda width: charts.risk_coverage_diagram(b, width),
                one_size=charts.NARROW_PX,
            ),
            class_="pair",
        ),
        details("Reliability as a table", reliability_table(b)),
        details("Risk and coverage as a table", risk_table(b)),
    )
