"""``conclave eval learning``: what learning from use saves, by simulation on recorded outcomes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from eval.commands.cells import figures_table, usd, usd_range
from eval.commands.data_options import (
    DataOrLedgerOption,
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

    from eval.learning.figures import LearningReport


def register(group: typer.Typer) -> None:
    group.command()(learning)


def learning(
    data: DataOrLedgerOption = None,
    ledger: LedgerOption = False,
    pool: PoolOption = None,
    fmt: FormatOption = None,
    allow_pickle: PickleOption = False,
    fallback_price: Annotated[
        float | None,
        typer.Option(help="What a wrong answer costs, $; ten calls of the middling model else."),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Questions in a stream.", min=10)] = 2000,
    seeds: Annotated[int, typer.Option(help="Streams of each kind.", min=2)] = 20,
    told: Annotated[
        float, typer.Option(help="Probability that an outcome is told.", min=0, max=1)
    ] = 0.3,
    share: Annotated[
        float, typer.Option(help="Of questions that may explore.", min=0, max=1)
    ] = 0.05,
    choose: Annotated[
        bool, typer.Option("--choose", help="Choose half-life and prior first, on val.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Added to every stream's seed.", min=0)] = 0,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """An expert gets worse, better, or stays in the middle of a stream; the last line is JSON.

    Fitted on train, streams of test; settings are chosen on val, with seeds of their own.
    """
    from eval.json_ready import json_ready
    from eval.learning.figures import Size, report_learning
    from eval.outcomes.pools import pool_of
    from experts.errors import UserError
    from orchestrator.config import load_config

    source = Source(data=data, ledger=ledger, fmt=fmt, allow_pickle=allow_pickle)
    if fallback_price is not None and not 0 < fallback_price < float("inf"):
        raise UserError("--fallback-price must be above 0 and finite: dollars of a wrong answer.")
    size = Size(n_questions=n, n_seeds=seeds, told=told, share=share)
    report = report_learning(
        pool_of(source.read(load_config(config_file)), pool),
        size,
        fallback_price_usd=fallback_price,
        choose=choose,
        seed=seed,
        tell=teller(as_json),
    )
    if not as_json:
        print_parts(format_regrets(report))
        for line in format_alarms(report):
            typer.echo(line)
    told_as = {"data": str(source), "pool": pool, **report.told_as()}
    typer.echo(json.dumps(json_ready(told_as), allow_nan=False))


def format_regrets(report: LearningReport) -> Table:
    """Dollars for 1000 questions after the change, with 95 % over seeds."""
    first = report.regrets[0]
    table = figures_table(
        ("change", "policy"),
        ("regret", "95 %", "saved", "95 %", "explored"),
        title=f"$ for 1000 questions after the change; {report.n_arms} arms, "
        f"{report.n_tasks} tasks, {first.n_seeds} streams of {first.n_questions}, "
        f"a wrong answer at {report.fallback_price_usd:.3g} $",
    )
    for r in report.regrets:
        table.add_row(
            r.scenario, r.policy, usd(r.after_usd.value), usd_range(r.after_usd.ci),
            f"{r.saved_usd.value:+.3g}", "{:+.3g} to {:+.3g}".format(*r.saved_usd.ci),
            f"{r.explored:.1%}",
        )  # fmt: skip
    return table


def format_alarms(report: LearningReport) -> list[str]:
    """What was detected, and what was not there."""
    lines = [
        f"{d.scenario}: detected in {d.n_detected} of {d.n_streams} streams"
        + ("" if d.delay_p50 is None else f", median {d.delay_p50:.0f} questions after the change")
        for d in report.detections
    ]
    for f in report.false_alarms:
        rate = "a known rate" if f.fitted_on is None else f"a rate fitted on {f.fitted_on}"
        low, high = f.interval
        lines.append(
            f"false alarms, {rate}: {f.per_1000:.3f} in 1000 outcomes ({low:.3f}-{high:.3f}, "
            f"{f.n_alarms} in {f.n})"
        )
    return lines
