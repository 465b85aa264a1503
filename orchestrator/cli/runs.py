"""``conclave runs``: questions whose answering survives kills and waits for people."""

from __future__ import annotations

import json
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from orchestrator.cli.options import (
    ConfigOption,
    JsonOption,
    MaxCallsOption,
    MaxCostOption,
    PriceOption,
    TimeoutOption,
)
from orchestrator.cli.output import print_parts

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from orchestrator.config import Config
    from orchestrator.runs.runs import Runs
    from orchestrator.runs.views import RunList, RunView

_T = TypeVar("_T")
_SHOWN_CHARS = 48
RunId = Annotated[str, typer.Argument(help="The run's id, as `conclave runs list` shows it.")]


def register(app: typer.Typer) -> None:
    runs = typer.Typer(
        name="runs",
        help="Questions whose answering survives kills and waits for people.",
        no_args_is_help=True,
    )
    for command, name in ((start, "start"), (list_runs, "list"), (show, "show")):
        runs.command(name)(command)
    runs.command("resume")(resume)
    runs.command("cancel")(cancel)
    app.add_typer(runs)


def start(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    policy: Annotated[
        str,
        typer.Option(
            "--policy", "--model", "-m", help="A policy (conclave, best, cheap) or an expert."
        ),
    ] = "conclave",
    fallback_price: PriceOption = None,
    max_cost_usd: MaxCostOption = None,
    max_calls: MaxCallsOption = None,
    timeout_s: TimeoutOption = None,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Begin a run, and work on it until it has its answer or waits for somebody.

    Whatever happens to this process, `conclave runs resume` goes on: what came back is not paid
    again.

    [dim]conclave runs start "What is 417 plus 385?"[/dim]
    """
    from experts.errors import UserError
    from experts.values import Message
    from orchestrator.queries import Wishes, make_query

    if not question.strip():
        raise UserError("The question is empty. Put it in quotes: conclave runs start 'What ...?'")
    with _opened(config_file) as (runs, config):
        target = policy.removeprefix("conclave/")
        messages = (Message(role="user", content=question),)
        wishes = Wishes(
            fallback_price_usd=fallback_price,
            max_cost_usd=max_cost_usd,
            max_calls=max_calls,
            timeout_s=timeout_s,
        )
        query = make_query(config, target, messages, wishes)
        run_id = runs.start(query, target)
        if not as_json:
            typer.echo(f"{run_id} begun.", err=True)
        _print_run(_stoppable(runs.go_on(run_id), f"conclave runs resume {run_id}"), as_json)


def list_runs(as_json: JsonOption = False, config_file: ConfigOption = None) -> None:
    """Runs, the newest first."""
    from orchestrator.runs.views import run_object

    with _looked_at(config_file) as runs:
        views = runs.views()
    if as_json:
        typer.echo(json.dumps({"runs": [run_object(v, with_calls=False) for v in views]}))
    elif views:
        print_parts(format_runs(views))
    else:
        typer.echo('There are none. Begin one: conclave runs start "What is 417 plus 385?"')


def show(run_id: RunId, as_json: JsonOption = False, config_file: ConfigOption = None) -> None:
    """One run: its calls, its dollars, and what it waits for."""
    with _looked_at(config_file) as runs:
        view = runs.view(run_id)
    if as_json:
        _print_run(view, as_json=True)
        return
    print_parts(*format_run(view))


def resume(
    run_id: Annotated[str | None, typer.Argument(help="The run's id.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every run that has not come to its end.")
    ] = False,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Go on with a run that was interrupted, or that waited for somebody who has answered.

    Exit code 1 when something could not go on.
    """
    from experts.errors import UserError
    from orchestrator.runs.views import run_object

    if (run_id is None) != everything:
        raise UserError("Name one run, or all of them: conclave runs resume --all")
    with _opened(config_file) as (runs, _):
        if run_id is not None:
            again = f"conclave runs resume {run_id}"
            _print_run(_stoppable(runs.go_on(run_id), again), as_json)
            return
        views, problems = _stoppable(runs.go_on_with_all(), "conclave runs resume --all")
    if as_json:
        told = {
            "runs": [run_object(v, with_calls=False) for v in views],
            "problems": {name: str(error) for name, error in problems.items()},
        }
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        for view in views:
            typer.echo(_in_a_line(view))
        for error in problems.values():
            typer.secho(str(error), err=True, fg=typer.colors.RED)
        if not views and not problems:
            typer.echo("No run is left to go on with.")
    if problems:
        raise typer.Exit(1)


def cancel(run_id: RunId, as_json: JsonOption = False, config_file: ConfigOption = None) -> None:
    """Give a run up. What was paid stays in the ledger; nobody is asked any more."""
    with _looked_at(config_file) as runs:
        view = runs.cancel(run_id)
    if as_json:
        _print_run(view, as_json=True)
    else:
        typer.echo(_in_a_line(view))
        if view.is_worked_on:
            typer.echo("A call that is under way ends first, and is still paid.")


def format_runs(views: Sequence[RunView]) -> Table:
    """A row a run."""
    from rich import box
    from rich.table import Table

    from orchestrator.runs.views import run_object

    table = Table("run", "state", "question", "calls", "$", "begun", box=box.SIMPLE_HEAD)
    for view in views:
        told = run_object(view, with_calls=False)
        lost = f" ({told['lost']['n_calls']} lost)" if told["lost"]["n_calls"] else ""
        table.add_row(
            view.row.run_id,
            view.state,
            _shortened(told["question"] or told["problem"]),
            f"{told['n_calls']}{lost}",
            f"{view.cost_usd:.2e}",
            when(view.row.started_at),
        )
    return table


def format_run(view: RunView) -> list[RenderableType]:
    """For people: state, calls, bill, whom it waits for, answer."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from orchestrator.runs.views import run_object

    told = run_object(view)
    parts: list[RenderableType] = [
        Text(f"Run       {told['run_id']}: {told['state']}, begun {when(view.row.started_at)}"),
        *(
            ()
            if view.decision is None
            else (
                Text(f"Question  {told['question']}"),
                Text(f"Plan      {told['plan']} ({told['policy']})"),
            )
        ),
    ]
    calls = Table("#", "call", "says", "$", "begun", box=box.SIMPLE_HEAD)
    for call in told["calls"]:
        if not call["came_back"]:
            says = Text("no answer", style="yellow")
        elif call["error"]:
            says = Text(call["error"], style="red")
        else:
            says = Text(_shortened(call["text"]))
        usd = call.get("cost_usd")
        calls.add_row(
            str(call["seq"] + 1),
            call["arm"],
            says,
            "?" if usd is None else f"{usd:.2e}",
            when(call["begun_at"]),
        )
    if told["calls"]:
        parts.append(calls)
    parts.append(Text(f"Bill      {told['cost_usd']:.2e} $"))
    if n := told["lost"]["n_calls"]:
        parts.append(
            Text(
                f"Lost      {n} calls were sent when a process was killed, and their answers are "
                f"lost. They may have cost up to {told['lost']['most_usd']:.2e} $ that is not in "
                "the bill.",
                style="yellow",
            )
        )
    for question in told["questions"]:
        if question["state"] == "waiting":
            what = _shortened(question["instructions"] or question["messages"][-1]["content"])
            parts.append(
                Text(
                    f"Waits     for {question['expert']} until {when(question['deadline_at'])}: "
                    f"{what} conclave human answer {question['question_id']} "
                    + ("yes" if question["kind"] == "approval" else '"..."')
                )
            )
    if told["answer"] and told["answer"]["succeeded"]:
        parts.append(Text(f"Answer    {told['answer']['text']}"))
    notes = told["answer"]["notes"] if told["answer"] else []
    parts += [Text(f"Note      {note}", style="yellow") for note in notes]
    if told["problem"]:
        parts.append(Text(f"Problem   {told['problem']}", style="red"))
    return parts


def _print_run(view: RunView, as_json: bool) -> None:
    """What became of a run that was worked on; exit code 1 where it failed."""
    from orchestrator.runs.views import run_object

    if as_json:
        typer.echo(json.dumps(run_object(view), ensure_ascii=False))
    elif view.state == "done" and view.row.answer and not view.row.answer["abstained"]:
        typer.echo(view.row.answer["text"])
    else:
        typer.echo(_in_a_line(view))
        for question in view.questions:
            if not question.is_settled:
                answer = "yes" if question.kind == "approval" else '"..."'
                typer.echo(f"  conclave human answer {question.question_id} {answer}")
    if view.state == "failed":
        raise typer.Exit(1)


def _in_a_line(view: RunView) -> str:
    waits = [q for q in view.questions if not q.is_settled]
    why = {
        "waiting": f" for {', '.join(sorted({q.expert for q in waits})) or 'nobody any more'}",
        "failed": f": {view.row.problem}",
        "done": f": {'; '.join((view.row.answer or {}).get('notes', ())) or 'answered'}",
    }
    return f"{view.row.run_id} {view.state}{why.get(view.state, '')}; {view.cost_usd:.2e} $."


def _stoppable(work: Coroutine[Any, Any, _T], again: str) -> _T:
    """Run it; at Ctrl-C or SIGTERM what is under way is stopped, and its bill written down."""
    import asyncio
    import signal

    async def until_done() -> _T:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        return asyncio.run(until_done())
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo(f"Interrupted. Go on with: {again}", err=True)
        raise KeyboardInterrupt from None


@contextmanager
def _opened(config_file: Path | None) -> Iterator[tuple[Runs, Config]]:
    from orchestrator.conclave import Conclave
    from orchestrator.config import load_config
    from orchestrator.runs.runs import Runs

    config = load_config(config_file)
    conclave = Conclave.from_config(config)
    with conclave.ledger, Runs(conclave, config) as runs:
        yield runs, config


@contextmanager
def _looked_at(config_file: Path | None) -> Iterator[RunList]:
    """Without experts, which take a moment to be made."""
    from orchestrator.config import load_config
    from orchestrator.ledger import Ledger
    from orchestrator.runs.views import RunList

    config = load_config(config_file)
    with Ledger(config.ledger_path) as ledger, RunList(ledger, config) as runs:
        yield runs


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]}..."


def when(at: float) -> str:
    from datetime import datetime

    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M}"
