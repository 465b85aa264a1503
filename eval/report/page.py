"""The report as one HTML file: no network, no assets, readable without script, on any screen.

The page's own style and script are inlined and allowed by their hashes; everything else is
forbidden by its Content-Security-Policy, so that nothing in it can load, send or run anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files

from eval.report import charts, frontier_chart, words
from eval.report.figures import Believed, ReportFigures, is_composition
from eval.report.frontier_chart import policy_class
from eval.report.markup import Child, Html, element, joined, raw
from eval.report.tables import (
    expert_table,
    frontier_table,
    objective_table,
    policy_table,
    reliability_table,
    risk_table,
    task_table,
)
from eval.report.writing import percent, points, points_range, price
from eval.routing.points import TOLD

HARDLY_ASKED = 0.005
"""Share of the queries below which a model is not in the chart of who is asked."""


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


def page(f: ReportFigures, made: Made) -> str:
    """The whole file."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"Routing on {made.data}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", raw(style)),
    )
    sections = [
        _answers(f),
        _frontier(f),
        _policies(f),
        _objective(f),
        _tasks(f),
        _experts(f),
        *([_believed(f.believed)] if f.believed else []),
        _made(f, made),
    ]
    contents = element(
        "nav",
        *(element("a", text, href=f"#{name}") for name, text in _CONTENTS.items()
          if name != "belief" or f.believed),
        aria_label="Sections",
    )  # fmt: skip
    header = element(
        "header",
        element("p", f"Conclave · {title}", class_="kicker"),
        element("h1", words.title(f)),
        element(
            "p",
            f"{len(f.models)} models, {made.n_dev:,} queries to choose on, {made.n_test:,} to "
            "judge on. Everything below is judged on queries that nothing was chosen on.",
            class_="lead",
        ),
        contents,
    )
    body = element(
        "body",
        element("a", "Skip to the answers", href="#answers", class_="skip"),
        header,
        element("main", *sections),
        element("div", id="tip", role="status", aria_live="polite", hidden="hidden"),
        element("script", raw(script)),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


_CONTENTS = {
    "answers": "Answers",
    "frontier": "Cost and accuracy",
    "policies": "Policies",
    "objective": "Price of failure",
    "tasks": "Tasks",
    "experts": "Models",
    "belief": "Confidence",
    "made": "How it was made",
}


def _answers(f: ReportFigures) -> Html:
    cards = [
        element(
            "article",
            element("h3", a.question),
            element("p", a.figure, class_="figure"),
            element("p", a.answer, class_="answer"),
            element("p", a.evidence, class_="evidence"),
        )
        for a in words.answers(f)
    ]
    rivals = [
        element(
            "li",
            f"{'better than' if p.p_value < 0.05 else 'not shown to be better than'} {name}: "
            f"{points(p.difference)} points, interval {points_range(p.ci)}, one-sided "
            f"{'p < 0.001' if p.p_value < 0.001 else f'p = {p.p_value:.3f}'}",
        )
        for name, p in f.verdict.against[f.best.figures.policy].items()
    ]
    against = (
        [element("p", f"Against simple routers, {f.best.figures.policy} at any price is"),
         element("ul", *rivals)] if rivals and not f.best.is_the_single else []
    )  # fmt: skip
    return _section("answers", "Two answers", element("div", *cards, class_="cards"), *against)


def _frontier(f: ReportFigures) -> Html:
    curves = [
        ("composition", "composition", any(is_composition(c.policy) for c in f.curves)),
        ("router", f"{f.best_router}, the best router", f.best_router is not None),
        ("other", "other routers", len(f.curves) > 2),
        ("model", "a model alone", True),
        ("single", "best single model", True),
        ("best-per-task", "best model per task (told it)", True),
        ("oracle", "oracle", True),
    ]
    return _section(
        "frontier",
        "What accuracy costs",
        element(
            "p",
            "Up and to the left is better. Each line is one policy; its points are the settings "
            "that were worth having on the development queries, shown where they came out on test. "
            "The dashed line is the best single model's accuracy. The oracle is told who is right.",
        ),
        _legend(curves),
        _figure(
            "Every policy, model and pick",
            lambda width: frontier_chart.frontier(f, width),
        ),
        _figure(
            "The same around the best single model",
            lambda width: frontier_chart.frontier(f, width, near=True),
        ),
        _details("All points as a table", frontier_table(f)),
    )


def _policies(f: ReportFigures) -> Html:
    told = [
        element("div", element("dt", name), element("dd", words.POLICIES.get(name, words.ROUTER)))
        for name in [row.policy for row in f.verdict.rows]
        if name in words.POLICIES
    ]
    return _section(
        "policies",
        "Policies",
        element(
            "p",
            "Each at its most accurate setting, chosen on the development queries. Dollars per "
            "right answer alone would crown the weakest model, so they stand beside what keeps "
            "them honest. The policies "
            f"{' and '.join(TOLD)} are told what no router can know.",
        ),
        policy_table(f),
        element("dl", *told, element("div", element("dt", "others"), element("dd", words.ROUTER))),
    )


def _objective(f: ReportFigures) -> Html:
    o = f.objective
    lines = [(policy_class(n, f), n, True) for n in o.relative]
    return _section(
        "objective",
        "With a price on failure",
        element(
            "p",
            "Suppose that a wrong answer costs you V: a person's time, or asking someone dearer. "
            "The line is what a policy's calls and its failures cost together, beside the best "
            "single model's 100 %; each policy is at the setting that was best for this V on the "
            f"development queries. At V = {price(f.break_even_usd)} (the upright line) the best "
            "single model's calls cost as much as its failures. The band is the 95 % interval of "
            f"{o.leader}.",
        ),
        _legend([*lines, ("single", "best single model", True)]),
        _figure(
            "Calls and failures together, relative to the best single model",
            lambda width: charts.objective_diagram(o, f, width),
        ),
        _details("Dollars per 1000 queries, failures included", objective_table(f)),
    )


def _tasks(f: ReportFigures) -> Html:
    marks = [
        (
            f"{t.task} ({t.n})",
            [
                charts.Mark(
                    value=t.single_regret, class_="single",
                    tip=f"{t.task}: {f.best_model} {percent(t.single)}, regret "
                        f"{points(t.single_regret)} points",
                ),
                charts.Mark(
                    value=t.policy_regret, class_="composition", ci=t.policy_regret_ci,
                    tip=f"{t.task}: {f.shipped.figures.policy} {percent(t.policy)}, regret "
                        f"{points(t.policy_regret)} points ({points_range(t.policy_regret_ci)})",
                ),
            ],
        )
        for t in f.tasks
    ]  # fmt: skip
    note = _cut(len(f.tasks), "tasks")
    return _section(
        "tasks",
        "Where it falls short",
        element(
            "p",
            "Regret is the accuracy that picking the best model for every single query would have "
            "added. It is never quite reachable: with many models, somebody is right by luck. "
            f"Tasks with the most regret first; in brackets, the number of test queries. {note}",
        ),
        _legend([("composition", f"{f.shipped.figures.policy}, most accurate", True),
                 ("single", f"{f.best_model} alone", True)]),
        _figure(
            "Regret by task, in points of accuracy",
            lambda width: charts.by_row(
                marks, width, x_label="points of accuracy below the best model for every query",
                label="Regret by task; values are in the table below.", share=False,
            ),
        ),
        _details("Regret by task as a table", task_table(f)),
    )  # fmt: skip


def _experts(f: ReportFigures) -> Html:
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
            f"shares may add up to more than 100 %.{unasked} {_cut(len(asked), 'models')}",
        ),
        _legend([("composition", "most accurate pick", True),
                 ("router", "as good, cheapest", True)]),
        _figure(
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
    return _section(
        "experts", "Whom it asks", *parts, _details("Models as a table", expert_table(f))
    )


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
    return _figure(
        text,
        lambda width: charts.by_row(
            rows, min(width, 430), x_label="points of accuracy" if by_accuracy else "rise",
            label=f"{text}; values are in the table below.", share=not by_accuracy,
        ),
        one_size=charts.NARROW_PX,
    )  # fmt: skip


def _believed(b: Believed) -> Html:
    return _section(
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
            _figure(
                f"Reliability, ECE {b.ece:.3f}",
                lambda width: charts.reliability_diagram(b, width),
                one_size=charts.NARROW_PX,
            ),
            _figure(
                f"Risk and coverage, AURC {b.aurc:.3f}",
                lambda width: charts.risk_coverage_diagram(b, width),
                one_size=charts.NARROW_PX,
            ),
            class_="pair",
        ),
        _details("Reliability as a table", reliability_table(b)),
        _details("Risk and coverage as a table", risk_table(b)),
    )


def _made(f: ReportFigures, made: Made) -> Html:
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
    return _section(
        "made",
        "How this was made",
        element("dl", *(element("div", element("dt", k), element("dd", v)) for k, v in facts)),
        element("ul", *(element("li", note) for note in notes), class_="notes"),
    )


def _section(name: str, title: str, *children: Child) -> Html:
    return element(
        "section", element("h2", title, id=f"{name}-title"), *children,
        id=name, aria_labelledby=f"{name}-title",
    )  # fmt: skip


def _figure(caption: str, draw: charts.Draw, *, one_size: int | None = None) -> Html:
    """A chart for wide screens and one for phones; only one is shown (and read out)."""
    if one_size:
        drawn = element("div", draw(one_size), class_="chart")
    else:
        drawn = joined(
            element("div", draw(charts.WIDE_PX), class_="chart wide"),
            element("div", draw(charts.NARROW_PX), class_="chart narrow"),
        )
    return element("figure", element("figcaption", caption), drawn)


def _legend(items: Sequence[tuple[str, str, bool]]) -> Html:
    """Classes and what they stand for; those that are there."""
    shown = [
        element(
            "li",
            element(
                "svg",
                element("line", x1=1, y1=8, x2=25, y2=8, class_=f"line {class_}"),
                element("circle", cx=13, cy=8, r=4, class_=f"mark {class_}"),
                viewBox="0 0 26 16", width=26, height=16, aria_hidden="true",
            ),
            text,
        )
        for class_, text, there in items
        if there
    ]  # fmt: skip
    return element("ul", *shown, class_="legend")


def _details(summary: str, table: Html) -> Html:
    return element("details", element("summary", summary), table)


def _cut(n: int, what: str) -> str:
    return f"The chart shows {charts.MAX_ROWS} of {n} {what}." if n > charts.MAX_ROWS else ""


def _asset(name: str) -> str:
    return (files("eval.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
