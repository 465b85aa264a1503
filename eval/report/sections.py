"""Sections of the report about policies: what they reach, at which price, and where they fail."""

from __future__ import annotations

from eval.report import charts, frontier_chart, words
from eval.report.figures import ReportFigures, is_composition
from eval.report.frontier_chart import policy_class
from eval.report.markup import Html, element
from eval.report.parts import cut, details, figure, legend, section
from eval.report.tables import frontier_table, objective_table, policy_table, task_table
from eval.report.writing import percent, points, points_range, price
from eval.routing.points import TOLD


def answers(f: ReportFigures) -> Html:
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
    return section("answers", "Two answers", element("div", *cards, class_="cards"), *against)


def frontier(f: ReportFigures) -> Html:
    curves = [
        ("composition", "composition", any(is_composition(c.policy) for c in f.curves)),
        ("router", f"{f.best_router}, the best router", f.best_router is not None),
        ("other", "other routers", len(f.curves) > 2),
        ("model", "a model alone", True),
        ("single", "best single model", True),
        ("best-per-task", "best model per task (told it)", True),
        ("oracle", "oracle", True),
    ]
    return section(
        "frontier",
        "What accuracy costs",
        element(
            "p",
            "Up and to the left is better. Each line is one policy; its points are the settings "
            "that were worth having on the development queries, shown where they came out on test. "
            "The dashed line is the best single model's accuracy. The oracle is told who is right.",
        ),
        legend(curves),
        figure(
            "Every policy, model and pick",
            lambda width: frontier_chart.frontier(f, width),
        ),
        figure(
            "The same around the best single model",
            lambda width: frontier_chart.frontier(f, width, near=True),
        ),
        details("All points as a table", frontier_table(f)),
    )


def policies(f: ReportFigures) -> Html:
    told = [
        element("div", element("dt", name), element("dd", words.POLICIES.get(name, words.ROUTER)))
        for name in [row.policy for row in f.verdict.rows]
        if name in words.POLICIES
    ]
    return section(
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


def objective(f: ReportFigures) -> Html:
    o = f.objective
    lines = [(policy_class(n, f), n, True) for n in o.relative]
    return section(
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
        legend([*lines, ("single", "best single model", True)]),
        figure(
            "Calls and failures together, relative to the best single model",
            lambda width: charts.objective_diagram(o, f, width),
        ),
        details("Dollars per 1000 queries, failures included", objective_table(f)),
    )


def tasks(f: ReportFigures) -> Html:
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
    note = cut(len(f.tasks), "tasks")
    return section(
        "tasks",
        "Where it falls short",
        element(
            "p",
            "Regret is the accuracy that picking the best model for every single query would have "
            "added. It is never quite reachable: with many models, somebody is right by luck. "
            f"Tasks with the most regret first; in brackets, the number of test queries. {note}",
        ),
        legend([("composition", f"{f.shipped.figures.policy}, most accurate", True),
                 ("single", f"{f.best_model} alone", True)]),
        figure(
            "Regret by task, in points of accuracy",
            lambda width: charts.by_row(
                marks, width, x_label="points of accuracy below the best model for every query",
                label="Regret by task; values are in the table below.", share=False,
            ),
        ),
        details("Regret by task as a table", task_table(f)),
    )  # fmt: skip
