"""``conclave batch``: a file of queries answered offline, as large as it may be."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from orchestrator.batch.run import BatchOptions, BatchProgress, BatchSummary


def register(app: typer.Typer) -> None:
    batch = typer.Typer(
        name="batch", help="Answer a file of queries offline.", no_args_is_help=True
    )
    batch.callback()(_batch)
    batch.command()(run)
    app.add_typer(batch)


def _batch() -> None:
    """Answer a file of queries offline."""


def run(
    queries: Annotated[
        Path,
        typer.Argument(
            help="JSONL: a line is {question or messages, id, model, max_cost_usd, ...}, or a "
            "request of OpenAI's batch format."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="JSONL that answers are appended to, as they come.")
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Policy or expert for lines that name none.")
    ] = "conclave",
    max_cost_usd: Annotated[
        float | None,
        typer.Option(
            help="Dollars that calls of the whole batch do not pass: what a call may cost is "
            "reserved.",
            min=0,
        ),
    ] = None,
    in_flight: Annotated[
        int, typer.Option(help="Queries that are worked on at a time.", min=1)
    ] = 1024,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Answer every query of a file exactly once.

    Interrupt it, or kill it, when you like: the same command goes on where it stopped. What has no
    answer is told of beside answers.jsonl in answers.errors.jsonl, and is tried again next time.
    Exit code 1 when something has none.

    [dim]echo '{"question": "What is 2 + 2?"}' > queries.jsonl;
    conclave batch run queries.jsonl --out answers.jsonl[/dim]
    """
    from orchestrator.batch.run import BatchOptions

    options = BatchOptions(model=model, max_cost_usd=max_cost_usd, in_flight=in_flight)
    summary = _run(queries, out, options, config_file, quiet=as_json)
    if as_json:
        told = {**asdict(summary), "errors": str(summary.errors), "n_left": summary.n_left}
        typer.echo(json.dumps(told))
    else:
        typer.echo("\n".join(format_summary(summary, out)))
    if summary.n_answered < summary.n_queries:
        raise typer.Exit(1)


def _run(
    queries: Path, out: Path, options: BatchOptions, config_file: Path | None, *, quiet: bool
) -> BatchSummary:
    import asyncio
    import signal

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    from orchestrator.batch.run import run_batch
    from orchestrator.conclave import Conclave
    from orchestrator.config import load_config

    config = load_config(config_file)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[spent]:.2e} $"),
        Remaining(),
        TextColumn("[red]{task.fields[failed]}[/red]"),
        console=Console(stderr=True),
        disable=quiet,
    )
    task = bar.add_task("reading", total=None, rate="", spent=0.0, failed="")
    n_before = 0

    def show(progress: BatchProgress) -> None:
        nonlocal n_before
        if not bar.live.is_started:  # not before: what is wrong with files is told without it
            bar.start()
        done = progress.n_answered + progress.n_failed
        if progress.is_reading:
            bar.update(task, completed=progress.n_queries)
            return
        if bar.tasks[0].total is None:  # what earlier processes did says nothing of our pace
            bar.reset(task, total=progress.n_queries, completed=done, description="answering")
            n_before = done
        # Since the beginning: answers come in waves, and rich looks at the last ones.
        speed = (done - n_before) / (bar.tasks[0].elapsed or math.inf)
        bar.update(
            task,
            completed=done,
            rate=f"{speed:.1f}/s" if speed else "",
            spent=progress.cost_usd,
            failed=f"{progress.n_failed} failed" if progress.n_failed else "",
        )

    conclave = Conclave.from_config(config)

    async def until_done() -> BatchSummary:
        work = asyncio.ensure_future(
            run_batch(conclave, config, queries, out, options, on_progress=show)
        )
        # As Ctrl-C: what is under way is given up and its bill is written down.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
        return await work

    def stop_showing() -> None:
        if bar.live.is_started:
            bar.stop()

    with conclave.ledger:
        try:
            return asyncio.run(until_done())
        except (KeyboardInterrupt, asyncio.CancelledError):
            stop_showing()
            typer.echo("Interrupted. Run the same command again to go on.", err=True)
            raise KeyboardInterrupt from None
        finally:
            stop_showing()


def format_summary(s: BatchSummary, out: Path) -> list[str]:
    """What was done, what it cost, what comes next."""
    before = s.n_answered - s.n_new
    earlier = f", {before} of them before" if before else ""
    lines = [
        f"{s.n_answered} of {s.n_queries} queries answered in {out}{earlier}; {s.cost_usd:.2e} $."
    ]
    if s.n_bad:
        lines.append(f"{s.n_bad} cannot be asked as they are: see {s.errors}, mend them.")
    if s.n_failed:
        lines.append(f"{s.n_failed} failed: see {s.errors}. Running it again tries them again.")
    if s.stopped:
        lines.append(f"Stopped, {s.n_left} left: {s.stopped}.")
        raise_it = " with a higher --max-cost-usd" if "limit" in s.stopped else ""
        lines.append(f"Run it again{raise_it} to go on.")
    return lines
