"""``conclave eval routing``: routers and composition beside the baselines, on recorded outcomes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.commands.cells import ACHIEVED, achieved, figures_table, points
from eval.commands.data_options import (
    USUAL_EMBEDDER,
    DataOrLedgerOption,
    EmbedderOption,
    FormatOption,
    LedgerOption,
    PickleOption,
    PoolOption,
    Source,
)
from orchestrator.cli.options import ConfigOption, JsonOption
from orchestrator.cli.output import print_parts, teller

if TYPE_CHECKING:
    from rich.table import Table

    from eval.report import Made, ReportFigures
    from eval.routing.experiment import Experiment
    from eval.routing.verdict import Figures, Paired, Verdict


def register(group: typer.Typer) -> None:
    group.command()(routing)


def routing(
    data: DataOrLedgerOption = None,
    ledger: LedgerOption = False,
    pool: PoolOption = None,
    routers: Annotated[
        list[str] | None, typer.Option(help="Routers to compare; all when none is named.")
    ] = None,
    fmt: FormatOption = None,
    allow_pickle: PickleOption = False,
    embedder: EmbedderOption = USUAL_EMBEDDER,
    seed: Annotated[int, typer.Option(help="Of the folds.", min=0)] = 0,
    report: Annotated[
        Path | None, typer.Option(help="Write the findings as one HTML file, with charts.")
    ] = None,
    unpriced: Annotated[
        bool, typer.Option(help="Judge accuracy alone, where costs are not known.")
    ] = False,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Every router and learned composition beside the baselines; the last line is JSON.

    Chosen on train and val, by cross-fitting; reported on test.
    """
    from eval.json_ready import json_ready
    from eval.outcomes.pools import pool_of
    from eval.report import EXAMPLE, write_report
    from eval.routing.experiment import experiment_object, run_experiment
    from eval.routing.policies import BASELINES
    from eval.whole_files import check_target
    from experts.errors import UnknownName, UserError
    from orchestrator.config import load_config
    from routers.estimators import ESTIMATORS
    from skills.embedders import make_embedder

    for name in routers or ():
        if name in BASELINES:
            raise UserError(
                f"{name} is a baseline, which is always shown: leave out --routers {name}."
            )
        if name not in ESTIMATORS:
            known = [n for n in ESTIMATORS if n not in BASELINES]
            raise UnknownName(name, known, what="router")
    source = Source(data=data, ledger=ledger, fmt=fmt, allow_pickle=allow_pickle)
    if report is not None:
        if unpriced:
            raise UserError("A report is about dollars: leave out --report, or --unpriced.")
        check_target(report, example=EXAMPLE)
    config = load_config(config_file)
    tell = teller(as_json)
    tell("reading")
    matrix = pool_of(source.read(config), pool)
    chosen = {n: ESTIMATORS[n] for n in routers} if routers else ESTIMATORS
    experiment = run_experiment(
        matrix, chosen, make_embedder(embedder), config, priced=not unpriced, seed=seed, tell=tell
    )
    told: dict[str, Any] = {
        "data": str(source),
        "pool": pool,
        "seed": seed,
        **experiment_object(experiment),
    }
    if report is not None:
        tell("report")
        name = "ledger" if data is None else data.absolute().name  # reports are passed on
        made = _made(experiment, data=name, pool=pool, routers=chosen, embedder=embedder, seed=seed)
        write_report(report, _report(experiment, seed), made)
        told["report"] = str(report)
    if not as_json:
        print_parts(format_verdict(experiment.verdict))
        for line in [*experiment.notes, *format_answers(experiment.verdict)]:
            typer.echo(line)
        if report is not None:
            typer.echo(f"The report is in {report}.")
    typer.echo(json.dumps(json_ready(told), allow_nan=False))


def _report(experiment: Experiment, seed: int) -> ReportFigures:
    from eval.report import fitted_beliefs, report_figures

    sides = experiment.sides
    return report_figures(
        experiment.points, sides, experiment.verdict, fitted_beliefs(sides), seed=seed
    )


def _made(
    experiment: Experiment,
    *,
    data: str,
    pool: str | None,
    routers: Iterable[str],
    embedder: str,
    seed: int,
) -> Made:
    from datetime import date
    from importlib.metadata import version

    from eval.report import Made

    sides = experiment.sides
    return Made(
        data=data,
        pool=None if pool is None else Path(pool).name,
        routers=tuple(routers),
        embedder=embedder,
        seed=seed,
        n_dev=len(sides.dev),
        n_test=len(sides.test),
        n_tasks=len(set(sides.matrix.tasks)),
        version=version("conclave-coe"),
        day=date.today(),
    )


def format_verdict(v: Verdict) -> Table:
    """Policies at their most accurate setting, and the frontier beneath. Without prices there are
    no dollars and no frontier."""
    beneath = "Beneath: the frontier, cheapest first. " if v.priced else ""
    n_known = len(ACHIEVED) if v.priced else 2
    table = figures_table(
        ("policy",),
        ACHIEVED[:n_known],
        title=f"{v.best_single.n} test queries, every policy at its most accurate setting",
        caption=f"{beneath}All settings were chosen on train and val.",
    )
    for f in v.rows:
        table.add_row(f.policy, *achieved(f)[:n_known])
    table.add_section()
    for f in v.curve:
        table.add_row(f.policy, *achieved(f))
    return table


def format_answers(v: Verdict) -> list[str]:
    """The two questions, in a sentence each: what was chosen, and what came of it on test."""
    lines = [] if v.few_queries is None else [v.few_queries]
    if v.priced:
        lines.append(
            "No cheaper policy was surely as good as the best single model on train and val."
            if v.equal_accuracy.policy == "best-single"
            else "As good as the best single model on train and val: "
            f"{_chosen(v.equal_accuracy, v.equal_paired, priced=True)}"
        )
    lines.append(
        "At any price: no policy was surely better than the best single model on train and val."
        if v.max_accuracy.policy == "best-single"
        else "At any price, the most accurate on train and val: "
        f"{_chosen(v.max_accuracy, v.max_paired, priced=v.priced)}"
    )
    for policy, comparisons in v.against.items():
        for name, p in comparisons.items():
            words = "beats" if p.p_value < 0.05 else "does not beat"
            lines.append(
                f"{policy} {words} {name}: {p.difference * 100:+.1f} points, p = {p.p_value:.3f} "
                "(paired bootstrap)."
            )
    return lines


def _chosen(f: Figures, p: Paired, *, priced: bool) -> str:
    from eval.routing.verdict import MARGIN

    cost = ""
    if priced:
        free = math.isnan(p.cost_ratio)
        cost = " (the best single model is free)" if free else f" at {p.cost_ratio:.0%} of its cost"
    outcome = {
        "better": "better",
        "as good": f"as good, within {MARGIN * 100:g} points",
        "worse": "worse",
        "cannot tell": f"{f.n} queries cannot tell",
    }[p.outcome]
    gained = points(p.difference, p.ci, unit=" points")
    return f"{f.policy}{cost}. On test {gained}: {outcome}."
