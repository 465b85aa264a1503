"""``conclave demo``: the whole system on questions that nobody trained on, beside its baselines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from eval.commands.cells import percent, percent_range
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts

if TYPE_CHECKING:
    from rich.table import Table

    from eval.bundled.demo import DemoReport
    from eval.cost_of_pass.figures import PolicyFigures

LABELS = {
    "conclave": "Conclave",
    "cheap": "Conclave, cheap",
    "best": "Conclave, best",
    "best_single": "best single expert",
    "cheapest": "cheapest expert",
    "random": "random expert",
    "vote_all": "ask everyone, vote",
    "best_per_skill": "best per skill (told)",
    "oracle": "oracle: cheapest right",
}
POLICIES = ("conclave", "cheap", "best")


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(as_json: JsonOption = False) -> None:
    """Ask 200 held-out questions, of Conclave and of its baselines, and compare.

    The bundled experts and what was fitted for them, whatever your own configuration says. Takes
    less than a minute, needs no key, no GPU and no network. The last line is JSON.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from eval.bundled.demo import Stage, run
    from orchestrator.conclave import Conclave
    from orchestrator.config import Config
    from orchestrator.ledger import Ledger
    from orchestrator.warm import warm

    config = Config()
    # A ledger of its own: what a demonstration asks must not weigh in what is fitted.
    conclave = Conclave.shipped(config, ledger=Ledger(config.data_dir / "demo.sqlite"))
    fitted = conclave.require_fitted()
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=as_json,
    )
    tasks: dict[str, Any] = {}

    def show(stage: Stage) -> None:
        if stage.name not in tasks:
            tasks[stage.name] = bar.add_task(stage.name, total=stage.total)
        bar.update(tasks[stage.name], completed=stage.done)

    with bar:
        import asyncio

        show(Stage("loading experts", 0, 1))
        asyncio.run(warm(conclave))
        show(Stage("loading experts", 1, 1))
        report = run(conclave, fitted, policies=POLICIES, on_stage=show)
    if not as_json:
        from eval.bundled.demo import demo_questions

        generated, by_hand = demo_questions()
        print_parts(
            format_examples(generated, by_hand),
            "",
            format_figures(f"{len(generated)} generated questions", report.generated),
            "",
            format_figures(f"{len(by_hand)} hand-written questions", report.handwritten),
            "",
            format_shares(report),
            "",
            "$/1k: dollars for 1000 questions; $/1k right, cost-of-pass: for 1000 right answers. "
            "Every call and the router are charged. s: seconds for all.",
            "Next: conclave ask 'What is 417 plus 385?' --explain",
        )
    typer.echo(json.dumps(demo_object(report)))


def format_examples(generated: Sequence[Any], by_hand: Sequence[Any], n: int = 3) -> Table:
    """A few of the questions, evenly spaced, so that figures have faces."""
    from rich.table import Table

    table = Table("for example", "answer", box=None)
    for questions in (generated, by_hand):
        for question in questions[:: max(1, len(questions) // n)][:n]:
            table.add_row(question.question, question.answer)
    return table


def format_figures(title: str, figures: Sequence[PolicyFigures]) -> Table:
    """Policies against accuracy, dollars, cost-of-pass and seconds; 80 columns wide."""
    from rich.table import Table

    table = Table(
        "", "right", "95 %", "$/1k", "$/1k right", "95 %", "s",
        title=title, box=None, pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for f in figures:
        ours = f.name in POLICIES
        table.add_row(
            LABELS.get(f.name, f.name),
            percent(f.accuracy),
            percent_range(f.accuracy_ci, digits=0),
            f"{f.cost_usd_per_1k:.4f}",
            f"{f.cost_of_pass_usd * 1000:.4f}",
            f"{f.cost_of_pass_ci[0] * 1000:.4f}-{f.cost_of_pass_ci[1] * 1000:.4f}",
            f"{f.seconds:.1f}",
            style="bold" if f.name == "conclave" else None if ours else "dim",
        )
    return table


def format_shares(report: DemoReport) -> Table:
    """Where Conclave's calls went."""
    from rich.table import Table

    table = Table(
        title="Calls of Conclave by expert", show_header=False, box=None,
        pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for name, share in sorted(report.shares.items(), key=lambda kv: -kv[1]):
        table.add_row(name, f"{share:.0%}", "█" * round(share * 40))
    return table


def demo_object(report: DemoReport) -> dict[str, Any]:
    """JSON-ready: the system's figures on top, baselines beside, hand-written by themselves."""

    def part(figures: Sequence[PolicyFigures]) -> dict[str, Any]:
        by_name = {f.name: figures_object(f) for f in figures}
        main = by_name.pop("conclave")
        policies = {n: by_name.pop(n) for n in POLICIES if n in by_name}
        return {**main, "policies": policies, "baselines": by_name}

    return {
        **part(report.generated),
        "handwritten": part(report.handwritten),
        "expert_shares": {k: round(v, 4) for k, v in report.shares.items()},
    }


def figures_object(f: PolicyFigures) -> dict[str, Any]:
    """JSON-ready; an infinite cost-of-pass is null."""
    return {
        "n": f.n,
        "accuracy": round(f.accuracy, 4),
        "accuracy_ci": [round(x, 4) for x in f.accuracy_ci],
        "cost_usd": f.cost_usd,
        "cost_of_pass_usd": _finite(f.cost_of_pass_usd),
        "cost_of_pass_ci": [_finite(x) for x in f.cost_of_pass_ci],
        "seconds": round(f.seconds, 3),
    }


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None
