"""``conclave eval iox``: what tools are worth to a language model, on simulated radio channels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.commands.cells import figures_table, percent, percent_with_range
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts

if TYPE_CHECKING:
    from rich.table import Table

    from eval.iox.experiment import IoxFigures
    from eval.statistics import Estimate

LLM = "generalist"


def register(group: typer.Typer) -> None:
    group.command()(iox)


def iox(
    n: Annotated[int, typer.Option(help="Questions for each of the six attributes.", min=1)] = 100,
    split: Annotated[
        str, typer.Option(help="Wordings and channels: val for choosing, test for reporting.")
    ] = "test",
    seed: Annotated[int, typer.Option(help="Which questions are drawn.", min=0)] = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the tool caller; the shipped one by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """A language model alone, with tools, tools alone, and the best choice; the last line is JSON.

    Each with and without tools of other fields that have right-looking names.
    """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    from eval.iox.choosers import ModelChooser, NearestDescription
    from eval.iox.experiment import run_iox
    from eval.iox.questions import channel_questions
    from eval.json_ready import json_ready
    from experts.bundled import FOLDER, TOOL_CALLER, bundled_experts
    from skills.embedders import make_embedder

    if split not in ("val", "test"):
        raise typer.BadParameter(f"{split!r} is no held-out split; known: val, test")
    with ThreadPoolExecutor(1) as worker:
        [llm] = bundled_experts(worker, names=[LLM], load_usd_per_s=0.0)
        [caller] = bundled_experts(
            worker, names=[TOOL_CALLER], load_usd_per_s=0.0, folder=folder or FOLDER
        )
        figures = asyncio.run(
            run_iox(
                channel_questions(n, split, seed),  # type: ignore[arg-type]
                split,  # type: ignore[arg-type]
                llm=llm,
                choosers={
                    "LLM with tools": ModelChooser(caller),
                    "tools alone": NearestDescription(make_embedder("minilm")),
                },
            )
        )
    if not as_json:
        print_parts(format_classifiers(figures), format_methods(figures))
    told: dict[str, Any] = json_ready(figures) | {"seed": seed}
    typer.echo(json.dumps(told))


def format_classifiers(figures: IoxFigures) -> Table:
    title = f"Classifiers on channels of {figures.split}"
    table = figures_table(("classifier",), ("accuracy", "most frequent", "ECE"), title=title)
    for c in figures.classifiers:
        table.add_row(c.name, _shown(c.accuracy), percent(c.majority), f"{c.ece:.3f}")
    return table


def format_methods(figures: IoxFigures) -> Table:
    table = figures_table(
        ("method", "distractors"),
        ("accuracy", "above LLM alone", "above floor", "right tool", "right call"),
        title=f"{figures.n} questions",
    )
    for m in figures.methods:
        table.add_row(
            m.method,
            "yes" if m.distractors else "no",
            _shown(m.accuracy),
            *("-" if f is None else _shown(f) for f in (m.lift, m.above_floor, m.choice, m.call)),
        )
    return table


def _shown(share: Estimate) -> str:
    return percent_with_range(share.value, share.ci)
