"""``conclave fit``: from the ledger's outcomes to a router; those fitted before; and, with
``conclave fit aggregator``, who puts answers together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import ConfigOption, JsonOption
from orchestrator.cli.output import print_parts, teller

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from orchestrator.aggregator_fitting import AggregatorFit
    from orchestrator.config import Config
    from orchestrator.learning.history import Fit
    from orchestrator.learning.refit import Refit
    from orchestrator.ledger import Ledger

_LOOK_S = 5.0

group = typer.Typer(name="fit", invoke_without_command=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group)


@group.callback()
def fit(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="Where to write; the data folder by default.")
    ] = None,
    unless_worse: Annotated[
        bool,
        typer.Option(
            "--unless-worse",
            help="Put it to use only if it is not shown to be worse than what is in use.",
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Stay, and fit so whenever `learning: {refit_every_n: ...}` outcomes have come.",
        ),
    ] = False,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Fit router, calibration and plans from recorded outcomes and from use.

    Outcomes of questions marked as test are never used. Record outcomes first: conclave record.
    """
    if context.invoked_subcommand:
        return
    from experts.errors import UserError
    from experts.expert import Pool
    from orchestrator.config import load_config
    from orchestrator.learning.history import FitHistory
    from orchestrator.learning.refit import fit_with_use
    from orchestrator.ledger import Ledger
    from orchestrator.pool import make_experts

    config = load_config(config_file)
    if out and (unless_worse or watch):
        raise UserError("--out writes a state that is not put to use; judge and watch without it.")
    with Ledger(config.ledger_path) as ledger:
        stages = teller(as_json)
        if watch:
            _watch(config, ledger, config_file)
            return
        if unless_worse:
            _unless_worse(config, ledger, stages, as_json=as_json)
            return
        pool = Pool.of(make_experts(config).values())
        if out:
            fitted = fit_with_use(config, ledger, pool, on_stage=stages)
            fitted.save(out)
            folder = out
        else:
            history = FitHistory(config.data_dir, keep=config.learning.keep_fits)
            with history.alone():
                fitted = fit_with_use(config, ledger, pool, on_stage=stages)
                history.use(history.add(fitted))
            folder = history.current_dir
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), **fitted.report}))
        return
    print_parts(format_fit(fitted.report))
    typer.echo(f"Saved in {folder}. Next: conclave ask 'What is 2 + 2?' --explain")


def _unless_worse(config: Config, ledger: Ledger, say: Any, *, as_json: bool) -> None:
    import os

    from orchestrator.learning.history import FitHistory
    from orchestrator.learning.refit import refit

    os.nice(19)  # whoever answers questions goes first
    history = FitHistory(config.data_dir, keep=config.learning.keep_fits)
    done = refit(config, ledger, history, on_stage=say)
    typer.echo(json.dumps(done.noted()) if as_json else format_refit(done))


def _watch(config: Config, ledger: Ledger, config_file: Path | None) -> None:
    """Until it is interrupted."""
    from threading import Event

    from experts.errors import UserError
    from orchestrator.learning.history import FitHistory
    from orchestrator.learning.watch import Watch, fitted_position, start_refit

    if config.learning.refit_every_n is None:
        raise UserError("Say how often: `learning: {refit_every_n: 500}` in conclave.yaml.")
    history = FitHistory(config.data_dir, keep=config.learning.keep_fits)
    watch = Watch(
        ledger=ledger,
        history=history,
        every_n=config.learning.refit_every_n,
        start=lambda: start_refit(config_file),
        fitted_at=lambda: fitted_position(history, ledger),
    )
    typer.echo(f"Fitting anew after every {watch.every_n} outcomes. Stop with Ctrl-C.")
    never = Event()
    try:
        while not never.wait(_LOOK_S):
            if watch.look():
                typer.echo("Fitting ...")
    finally:
        watch.stop()


@group.command("list")
def list_(as_json: JsonOption = False, config_file: ConfigOption = None) -> None:
    """Fitted states that are kept, and what became of refits."""
    from orchestrator.config import load_config
    from orchestrator.learning.history import FitHistory

    history = FitHistory(load_config(config_file).data_dir)
    fits, log = history.fits(), history.log()
    if as_json:
        told = [
            {"id": f.fit_id, "in_use": f.is_current, "folder": str(f.folder), **f.report}
            for f in fits
        ]
        typer.echo(json.dumps({"fits": told, "refits": log}))
        return
    print_parts(format_fits(fits))
    for entry in log[-5:]:
        typer.echo(format_log(entry))
    typer.echo("Go back to one: conclave fit restore ID" if fits else "Next: conclave fit")


@group.command()
def restore(
    fit_id: Annotated[str, typer.Argument(metavar="ID", help="As conclave fit list has it.")],
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Put a fitted state to use again; servers that run take it over within a second."""
    from orchestrator.config import load_config
    from orchestrator.learning.history import FitHistory

    history = FitHistory(load_config(config_file).data_dir)
    before = history.current_id
    history.use(fit_id)
    history.note(outcome="restored", fit_id=fit_id, reason=f"in place of {before}")
    if as_json:
        typer.echo(json.dumps({"in_use": fit_id, "before": before}))
        return
    again = f" Back again: conclave fit restore {before}" if before else ""
    typer.echo(f"{fit_id} is in use.{again}")


def format_refit(done: Refit) -> str:
    """One line."""
    if done.outcome == "in use":
        return f"{done.fit_id} is in use: {done.reason}."
    return f"What is in use stays ({done.outcome}): {done.reason}."


def format_log(entry: Mapping[str, Any]) -> str:
    """One line of the log."""
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(entry["at"], UTC).strftime("%Y-%m-%d %H:%M")
    return f"{at}  {entry['outcome']}  {entry.get('fit_id', '')}  {entry.get('reason', '')}"


def format_fits(fits: Sequence[Fit]) -> Table:
    """A row for each, oldest first."""
    from rich.table import Table

    table = Table("fit", "in use", "questions", "of use", "verdicts until")
    for f in fits:
        report = f.report
        table.add_row(
            f.fit_id, "yes" if f.is_current else "", str(report.get("n_questions", "")),
            str(report.get("n_outcomes_of_use", 0)), str(report.get("last_verdict_id", "")),
        )  # fmt: skip
    return table


@group.command()
def aggregator(
    n: Annotated[int, typer.Option(help="Tasks, each put to every expert.", min=1)] = 100,
    seed: Annotated[int, typer.Option(help="Which tasks, and their order.", min=0)] = 0,
    max_tokens: Annotated[int, typer.Option(help="Of each answer.", min=1)] = 512,
    budget_usd: Annotated[
        float | None,
        typer.Option(
            "--budget", help="Dollars; an expert that might pass them is not asked.", min=0
        ),
    ] = None,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Who puts answers together: asks every expert to find one right answer among two wrong ones.

    Made of recorded outcomes (Symbolic-MoE's task). The best is asked by best_of and synthesis
    where a plan names nobody. Needs a fitted pool: conclave fit.
    """
    import asyncio

    from orchestrator.aggregator_fitting import measure_aggregators, use_aggregator
    from orchestrator.config import load_config
    from orchestrator.learning.history import FitHistory
    from orchestrator.ledger import Ledger

    config = load_config(config_file)
    with Ledger(config.ledger_path) as ledger:
        found = asyncio.run(
            measure_aggregators(
                config, ledger, n=n, seed=seed, max_tokens=max_tokens, budget_usd=budget_usd,
                on_arm=teller(as_json),
            )
        )  # fmt: skip
    history = FitHistory(config.data_dir, keep=config.learning.keep_fits)
    use_aggregator(config, history, found, seed=seed)
    if as_json:
        folder = str(history.current_dir)
        typer.echo(json.dumps({"folder": folder, "seed": seed, **found.report()}))
        return
    print_parts(format_aggregators(found))
    for note in found.notes:
        typer.echo(f"- {note}")
    if found.best is not None:
        typer.echo(
            f"Saved in {history.current_dir}: {found.best} aggregates where a plan names nobody."
        )


def format_aggregators(found: AggregatorFit) -> Table:
    """A line an arm, the best first; last, what asking the likeliest arm would have given."""
    from rich.table import Table

    from routers.intervals import wilson_interval

    table = Table(
        "aggregator", "right", "95 %", "failed", "own texts", "$",
        title=f"{found.n_tasks} tasks: one right answer, two wrong ones",
    )  # fmt: skip

    def share(n_right: int, n: int) -> tuple[str, str]:
        low, high = wilson_interval(n_right, n)
        return f"{n_right / n:.0%}", f"{low:.0%}-{high:.0%}"

    for m in found.measured:
        table.add_row(
            str(m.arm), *share(m.n_right, m.n), str(m.n_failed), str(m.n_chains),
            f"{m.cost_usd:.2g}",
        )  # fmt: skip
    if found.likeliest:
        table.add_row("the likeliest of each question", *share(*found.likeliest), "", "", "")
    return table


def format_fit(report: Mapping[str, Any]) -> Table:
    """What fitting saw and measured; blind means predicted without the question's own outcome."""
    from rich.table import Table

    table = Table("fitted on", "")
    table.add_row("questions", str(report["n_questions"]))
    if left_out := report.get("left_out"):
        table.add_row("left out: an expert failed at them", str(len(left_out)))
    table.add_row("recorded calls", str(report["n_calls"]))
    if labelled_by := report.get("labelled_by"):
        told = ", ".join(f"{name} {n}" for name, n in labelled_by.items() if n)
        table.add_row("skills by", told)
    if spent_usd := report.get("annotation_usd"):
        table.add_row("paid for keywords", f"{spent_usd:.2g} $")
    table.add_row("right category, blind", f"{report['category_accuracy_blind']:.1%}")
    table.add_row("calibration error (ECE), blind", f"{report['ece_blind']:.3f}")
    table.add_row("taken for general: known categories", f"{report['general_when_known']:.1%}")
    table.add_row("taken for general: unknown ones", f"{report['general_when_unknown']:.1%}")
    return table
