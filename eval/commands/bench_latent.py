"""``conclave bench latent``: what sharing thoughts brings, with controls, and what it costs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.commands.cells import figures_table, percent_with_range
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts, teller

if TYPE_CHECKING:
    from rich.table import Table

    from eval.benchmarks.latent import LatentReport
    from eval.latent.speed import SpeedFigures
    from eval.statistics import Estimate
    from experts.latent.card import FormName

ENTITIES_GOAL, PAIRS_GOAL, CONTROLS_GOAL = 0.40, 0.15, 0.25
SINGLE_GOAL, OWN_GOAL = 0.03, 0.01
TOKENS_GOAL, DECODE_GOAL, FIRST_GOAL = 0.6, 0.95, 0.30


def register(group: typer.Typer) -> None:
    group.command()(latent)


def latent(
    heads: Annotated[
        Path, typer.Option(help="Folder of the trained heads; those that are there are kept.")
    ] = Path("latent-heads"),
    n: Annotated[int, typer.Option(help="Questions of each kind and draw.", min=10)] = 200,
    draws: Annotated[int, typer.Option(help="Draws of test questions.", min=2)] = 5,
    seeds: Annotated[int, typer.Option(help="Heads trained of each form and control.", min=1)] = 3,
    form: Annotated[
        list[str] | None,
        typer.Option(
            "--form", help="Once a form; all three by default. Controls are of the soft prefix."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="As of `conclave latent train`; form, seed and control are this benchmark's own."
        ),
    ] = None,
    questions: Annotated[int, typer.Option(help="Training questions.", min=30)] = 12_000,
    rounds: Annotated[int, typer.Option(help="Rounds of timing.", min=3)] = 15,
    speed_only: Annotated[
        bool, typer.Option("--speed-only", help="Time the heads that are there, and no more.")
    ] = False,
    shape: Annotated[
        str | None,
        typer.Option(
            help="WIDTHxLAYERS: time random members of this shape, and nothing else. "
            "4096x32 is a 7B."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda, with --shape.")] = "cpu",
    vllm: Annotated[
        Path | None,
        typer.Option(help="Python of an environment with vLLM: the form that runs there, too."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Trains heads of three forms and their controls, some two hours on two cores, and shows them
    beside their members alone, voting, put together, and one after the other.

    The last line is JSON. Exit code 1 when a goal is missed.
    """
    from eval.benchmarks.latent import run_accuracy, train_all
    from eval.benchmarks.latent_speed import run_speed, run_ways
    from eval.commands.latent import read_plan, training_bar
    from eval.json_ready import json_ready

    if shape is not None:
        _sizes(shape, device, rounds, as_json)
        return
    plan, which, forms = read_plan(config), range(seeds), _forms(form)
    say = teller(as_json)
    report: LatentReport | None = None
    n_jobs = os.cpu_count() or 1
    if not speed_only:
        with training_bar(as_json) as tell:
            trained = train_all(
                heads, plan, forms=forms, seeds=which, n_questions=questions,
                n_jobs=n_jobs, tell=tell,
            )  # fmt: skip
        report = run_accuracy(
            trained, plan, forms=forms, seeds=which, n=n, n_draws=draws, n_questions=questions,
            n_jobs=n_jobs, say=say,
        )  # fmt: skip
        if not as_json:
            print_parts(format_accuracy(report), format_own_skills(report))
    speed = run_speed({name: heads / f"{name}-0" for name in forms}, n_rounds=rounds, say=say)
    answering = run_ways(heads / "soft_prefix-0", n_rounds=rounds, say=say)
    if not as_json:
        print_parts(format_speed(speed))
        print_parts(format_ways(answering))
    engines: Any = None
    if vllm is not None:
        from eval.benchmarks.latent_engines import run_engines

        engines = run_engines(heads / "soft_prefix-0", vllm, say=say)
    goals = _goals(report, speed, engines)
    told = {
        "accuracy": None if report is None else _told(report),
        "speed": [asdict(row) for row in speed],
        "answering_s": {
            kind: {way: asdict(e) for way, e in ways.items()} for kind, ways in answering.items()
        },
        "vllm": engines,
        "goals": goals,
    }
    typer.echo(json.dumps(json_ready(told), allow_nan=False))
    if not all(goals.values()):
        raise typer.Exit(1)


def _forms(told: Sequence[str] | None) -> tuple[FormName, ...]:
    """The default one first: controls are compared with it. Raises UserError."""
    from eval.benchmarks.latent import DEFAULT_FORM
    from experts.errors import UserError
    from experts.latent.card import FORMS

    if unknown := sorted(set(told or ()) - set(FORMS)):
        raise UserError(f"--form {unknown[0]}: there are {', '.join(FORMS)}.")
    return tuple(f for f in FORMS if not told or f in {*told, DEFAULT_FORM})


def _sizes(shape: str, device: str, rounds: int, as_json: bool) -> None:
    from eval.benchmarks.latent_sizes import Shape, run_sizes
    from eval.json_ready import json_ready

    found = run_sizes(Shape.parse(shape), device=device, n_rounds=rounds, say=teller(as_json))
    if not as_json:
        print_parts(format_speed(found))
    told = {"shape": shape, "device": device, "speed": [asdict(row) for row in found]}
    typer.echo(json.dumps(json_ready(told), allow_nan=False))


def format_accuracy(report: LatentReport) -> Table:
    """A line a way."""
    kinds = tuple(report.cells)
    table = figures_table(
        ("way",),
        kinds,
        title=f"Right answers: {len(report.draws)} draws of {report.n} test questions a kind, "
        f"{len(report.training_seeds)} training seeds",
        caption="95 % intervals over training seeds and draws. `any member` is the best router "
        "that could be; `vote` takes three calls, `synthesis` four; `two calls` is told whom to "
        "ask.",
    )
    for way in next(iter(report.cells.values())):
        found = [report.cells[kind][way].estimate for kind in kinds]
        table.add_row(way, *(percent_with_range(e.value, e.ci) for e in found))
    return table


def format_own_skills(report: LatentReport) -> Table:
    """A line a member."""
    table = figures_table(
        ("member",), ("latent", "by itself"), title="Single steps, by the member that knows them"
    )
    for member, both in report.own_skills.items():
        found = [cells.estimate for cells in both]
        table.add_row(member, *(percent_with_range(e.value, e.ci) for e in found))
    return table


def format_speed(speed: Sequence[SpeedFigures]) -> Table:
    """A line for each form, number of peers and length of the prompt."""
    table = figures_table(
        ("form",),
        (
            "peers",
            "bytes",
            "weights",
            "first ms",
            "own ms",
            "peers' ms",
            "added",
            "decode",
            "tokens/s",
            "by count",
            "by count",
        ),
        title="Time, medians of rounds in turns",
        caption="added: to the primary's own time to its first token, beyond its peers' reading; "
        "decode: speed behind the first token, of the primary's own; tokens/s: of primary and "
        "peers run separately on the same texts, each in its own tokens; by count: of peers that "
        "say no more tokens than the primary.",
    )
    for row in speed:
        table.add_row(
            row.form, str(row.n_peers), str(row.prompt_bytes), f"{row.n_parameters:,}",
            f"{row.first_s.value * 1e3:.1f}", f"{row.own_first_s.value * 1e3:.1f}",
            f"{row.reading_s.value * 1e3:.1f}", f"{row.added_to_first.value:+.0%}",
            f"{row.decode_ratio.value:.2f}", f"{row.tokens_ratio.value:.2f}",
            f"{row.tokens_ratio_by_count.value:.2f}",
        )  # fmt: skip
    return table


def format_ways(answering: Mapping[str, Mapping[str, Estimate]]) -> Table:
    """A line a kind of question."""
    from eval.benchmarks.latent_speed import N_ASKED

    ways = tuple(next(iter(answering.values())))
    table = figures_table(
        ("kind",),
        ways,
        title=f"Milliseconds a question, {N_ASKED} asked at once, medians of rounds in turns",
        caption="`one call` asks the primary alone, which does not know.",
    )
    for kind, took in answering.items():
        cells = (_ms(took[way], N_ASKED) for way in ways)
        table.add_row(kind, *cells)
    return table


def _ms(took: Estimate, n: int) -> str:
    low, high = (1e3 * s / n for s in took.ci)
    return f"{1e3 * took.value / n:.2f} [dim]{low:.2f}-{high:.2f}[/dim]"


def _goals(
    report: LatentReport | None, speed: Sequence[SpeedFigures], engines: Any
) -> dict[str, bool]:
    from eval.benchmarks.latent import CONTROLS, DEFAULT_FORM, LORA
    from eval.latent.accuracy import ANY, SYNTHESIS, VOTE

    goals: dict[str, bool] = {}
    if report is not None:
        others = (ANY, VOTE, SYNTHESIS)

        def beats(kind: Any, by: float, ways: Sequence[str]) -> bool:
            return all(report.difference(kind, DEFAULT_FORM, w).value >= by for w in ways)

        goals["held-out entities, over other ways"] = beats("entities", ENTITIES_GOAL, others)
        goals["trained pairs, over other ways"] = beats("pairs", PAIRS_GOAL, others)
        goals["held-out entities, over controls"] = beats(
            "entities", CONTROLS_GOAL, (*CONTROLS, LORA)
        )
        goals["single steps, beside the best router"] = beats("single", -SINGLE_GOAL, (ANY,))
        for member, (latent_, alone) in report.own_skills.items():
            lost = alone.estimate.value - latent_.estimate.value
            goals[f"own skills of {member}"] = lost <= OWN_GOAL
    for row in speed:
        if row.form == "interaction":
            goals[f"tokens/s, {_named(row)}"] = row.tokens_ratio.value >= TOKENS_GOAL
        else:
            goals[f"decoding, {_named(row)}"] = row.decode_ratio.value >= DECODE_GOAL
            goals[f"first token, {_named(row)}"] = row.added_to_first.value <= FIRST_GOAL
    if engines is not None:
        goals["the same answers on vLLM"] = engines["n_same"] == engines["n"]
    return goals


def _named(row: SpeedFigures) -> str:
    return f"{row.form}, {row.n_peers} peers, {row.prompt_bytes} bytes"


def _told(report: LatentReport) -> dict[str, Any]:
    from eval.benchmarks.latent import DEFAULT_FORM

    return {
        "n": report.n,
        "training_seeds": report.training_seeds,
        "draws": report.draws,
        "own_skills": {
            member: {"latent": asdict(one.estimate), "by itself": asdict(other.estimate)}
            for member, (one, other) in report.own_skills.items()
        },
        "n_parameters": report.n_parameters,
        "training_s": report.seconds,
        "right": {
            kind: {way: asdict(cells.estimate) for way, cells in ways.items()}
            for kind, ways in report.cells.items()
        },
        "ahead": {
            kind: {
                way: asdict(report.difference(kind, DEFAULT_FORM, way))
                for way in ways
                if way != DEFAULT_FORM
            }
            for kind, ways in report.cells.items()
        },
    }
