"""``conclave record``: ask all experts all questions of a source, grade, and keep the outcomes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eval.recording.grading import Judge
    from eval.recording.record import RecordingSummary
    from experts.expert import Expert


def register(app: typer.Typer) -> None:
    app.command()(record)


def record(
    questions: Annotated[
        str,
        typer.Argument(
            help="FILE.jsonl, FILE.csv, hf:NAME[:config][:split], or an inspect_ai task: "
            "inspect:NAME, FILE.py@TASK (its code is run)."
        ),
    ],
    samples: Annotated[
        int, typer.Option(help="Answers of each expert to each question; votes need 3.", min=1)
    ] = 1,
    budget: Annotated[
        float | None,
        typer.Option(help="Dollars that are not passed: what a call may cost is reserved.", min=0),
    ] = None,
    grader: Annotated[
        str | None, typer.Option(help="For questions that name none; exact, or choice, else.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="The expert that grades where a grader asks a model.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many.", min=1)] = None,
    question_column: Annotated[str, typer.Option(help="Of a table.")] = "question",
    answer_column: Annotated[str, typer.Option(help="Of a table.")] = "answer",
    options_column: Annotated[str, typer.Option(help="Of a table.")] = "options",
    skill_column: Annotated[str, typer.Option(help="Of a table.")] = "skill",
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Record outcomes of your experts on questions with known answers.

    Interrupt it when you like: running it again goes on where it stopped. Then: conclave fit.
    """
    import asyncio

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    from eval.questions.sources import Columns, read_source
    from eval.recording.record import RecordingProgress, record_outcomes
    from orchestrator.config import load_config
    from orchestrator.fitting import check_skills
    from orchestrator.ledger import Ledger
    from orchestrator.pool import make_experts_and_judges
    from skills.taxonomy import Taxonomy

    config = load_config(config_file)
    columns = Columns(
        question=question_column, answer=answer_column, options=options_column, skill=skill_column
    )
    asked = read_source(questions, columns=columns, default_grader=grader, limit=limit)
    # Before anything is paid: fitting would refuse them.
    check_skills((q.skill for q in asked), Taxonomy.load(config.taxonomy))
    everybody, judges = make_experts_and_judges(config)
    # People are not examined: hundreds of questions would wait on their desk.
    experts = {n: e for n, e in everybody.items() if e.card.kind != "human"}
    examiner = judge_named(judge, judges, experts)
    bar = Progress(
        TextColumn("recording"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[spent]:.2e} $"),
        Remaining(),
        console=Console(stderr=True),
        disable=as_json,
    )
    with Ledger(config.ledger_path) as ledger, bar:
        task = bar.add_task("", total=None, spent=0.0)

        def show(progress: RecordingProgress) -> None:
            bar.update(
                task,
                completed=progress.n_done,
                total=progress.n_total,
                spent=progress.cost_usd,
            )

        try:
            summary = asyncio.run(
                record_outcomes(
                    asked,
                    experts,
                    ledger,
                    n_samples=samples,
                    budget_usd=budget,
                    max_tokens=config.limits.max_tokens,
                    judge=examiner,
                    on_progress=show,
                )
            )
        except KeyboardInterrupt:
            bar.stop()
            typer.echo("Interrupted. What was answered is kept; run it again to go on.", err=True)
            raise
    if as_json:
        told = {
            "n_questions": len(asked),
            "n_asked": summary.n_asked,
            "n_skipped": summary.n_skipped,
            "n_failed": summary.n_failed,
            "n_ungraded": summary.n_ungraded,
            "cost_usd": summary.cost_usd,
            "judge_usd": summary.judge_usd,
            "stopped_by_budget": summary.stopped_by_budget,
            "next_call_usd": summary.next_call_usd,
            "given_up": dict(summary.given_up),
        }
        typer.echo(json.dumps(told))
    else:
        typer.echo("\n".join(format_summary(summary)))
    if summary.given_up:
        raise typer.Exit(1)


def format_summary(s: RecordingSummary) -> list[str]:
    """What was done, what it cost, what comes next."""
    judged = f", {s.judge_usd:.2e} of them for judging" if s.judge_usd else ""
    lines = [
        f"{s.n_asked} calls made, {s.n_skipped} already recorded, "
        f"{s.n_failed} failed; {s.cost_usd:.2e} ${judged}."
    ]
    if s.n_ungraded:
        lines.append(f"{s.n_ungraded} answers were not graded. Run it again to have them graded.")
    lines += [f"Gave up on {arm}: {why}" for arm, why in s.given_up.items()]
    if s.stopped_by_budget:
        needed = f"the next call may cost up to {s.next_call_usd:.2e} $"
        lines.append(
            f"Stopped by the budget: {needed}. Run it again to go on."
            if s.n_asked
            else f"The budget is too little for a single call: {needed}. Give a larger --budget."
        )
    elif not s.given_up:
        lines.append("Next: conclave fit")
    return lines


def judge_named(
    name: str | None, judges: Mapping[str, Expert], experts: Mapping[str, Expert]
) -> Judge | None:
    """The judge of that name, or the only one under ``judges:``.

    Raises UnknownExpert for a name that neither judges nor experts have.
    """
    from eval.recording.grading import Judge
    from experts.errors import UnknownExpert
    from experts.values import Arm

    if name is None:
        if len(judges) != 1:
            return None
        [name] = judges
    known = {**experts, **judges}
    if name not in known:
        raise UnknownExpert(name, known, what="judge")
    return Judge(arm=Arm(name), expert=known[name])
