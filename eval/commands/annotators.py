"""``conclave eval skills``: the annotators compared on questions that they were not fitted on."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from eval.commands.cells import figures_table, percent, percent_range, usd, usd_gained
from orchestrator.cli.options import ConfigOption, JsonOption
from orchestrator.cli.output import print_parts, teller

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.table import Table

    from eval.skills.figures import AnnotatorFigures, Comparison
    from orchestrator.config import Config
    from orchestrator.ledger import Ledger, RecordedCall


def register(group: typer.Typer) -> None:
    group.command(name="skills")(skills)


def skills(
    ledger: Annotated[
        bool,
        typer.Option("--ledger", help="Your recorded questions with skills, not the bundled ones."),
    ] = False,
    n: Annotated[int, typer.Option(help="Bundled test questions a skill.", min=1)] = 4,
    n_fit: Annotated[int, typer.Option(help="Bundled questions a skill to fit on.", min=3)] = 15,
    keywords: Annotated[
        str | None,
        typer.Option(help="The expert that names keywords; by default `keywords:` or none."),
    ] = None,
    passes: Annotated[int, typer.Option(help="Calls a question for keywords.", min=1)] = 5,
    policy: Annotated[str, typer.Option(help="Whose price of a wrong answer counts.")] = "conclave",
    seed: Annotated[int, typer.Option(help="Which bundled questions are drawn.", min=0)] = 1,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Compare the annotators: accuracy, calibration, price, and what routing gains.

    On questions with new wordings, and on those of categories hidden from them; every expert
    answers every question, once. The last line is JSON. With --ledger, questions of the split test
    are judged on, all others fitted on, and nobody is asked but for keywords.
    """
    from eval.json_ready import json_ready
    from eval.skills.comparison import compare_annotators
    from experts.errors import UnknownName
    from experts.expert import Pool
    from orchestrator.config import KeywordSettings, load_config
    from orchestrator.keywords import ask_for_keywords, keyword_annotator
    from orchestrator.ledger import Ledger
    from orchestrator.pool import make_experts
    from skills.embedders import make_embedder
    from skills.taxonomy import Taxonomy

    config = load_config(config_file)
    if policy not in config.all_policies:
        raise UnknownName(policy, config.all_policies, what="policy")
    tell = teller(as_json)
    experts = make_experts(config)
    pool = Pool.of(experts.values())
    settings = config.keywords
    if keywords is not None:
        pool.card(keywords)  # raises with the nearest names, before anything is asked
        settings = KeywordSettings(expert=keywords, passes=passes)
    embedder, taxonomy = make_embedder(config.embedder), Taxonomy.load(config.taxonomy)
    with Ledger(config.ledger_path if ledger else ":memory:") as books:
        if ledger:
            fit_calls, test_calls = _own(books, config, pool.versions)
        else:
            fit_calls, test_calls = _bundled(books, config, n=n, n_fit=n_fit, seed=seed, tell=tell)
        ask = None
        if settings is not None:
            ask = partial(
                ask_for_keywords,
                settings=settings,
                experts=experts,
                ledger=books,
                annotator=keyword_annotator(taxonomy.names, taxonomy, embedder),
                on_stage=tell,
            )

        compared = compare_annotators(
            fit_calls,
            test_calls,
            pool,
            taxonomy,
            embedder,
            fallback_price_usd=config.all_policies[policy].fallback_price_usd,
            ask_keywords=ask,
            on_stage=tell,
        )
    if not as_json:
        print_parts(*format_comparison(compared))
    told = {
        "data": "ledger" if ledger else "bundled",
        "seed": seed,
        "policy": policy,
        "keywords": settings.model_dump() if settings else None,
        **json_ready(compared),
    }
    typer.echo(json.dumps(told, allow_nan=False))


def _own(
    ledger: Ledger, config: Config, versions: dict[str, str]
) -> tuple[list[RecordedCall], list[RecordedCall]]:
    from experts.errors import DataError

    calls = [
        c
        for c in ledger.recorded_calls()
        if c.skill
        and c.completion.call.sample == 0
        and versions.get(c.completion.call.arm.expert) == c.version
    ]
    test = [c for c in calls if c.split == "test"]
    if not test:
        raise DataError(
            f"{config.ledger_path} has no graded outcomes of questions with a skill and the split "
            "test. Give some of your questions these two, and record them: conclave record "
            "QUESTIONS.jsonl"
        )
    return [c for c in calls if c.split != "test"], test


def _bundled(
    ledger: Ledger, config: Config, *, n: int, n_fit: int, seed: int, tell: Callable[[str], None]
) -> tuple[list[RecordedCall], list[RecordedCall]]:
    """Wordings known to the experts' training to fit on, and test wordings to judge by."""
    import asyncio

    from eval.questions import lab_questions
    from eval.recording.record import record_outcomes
    from orchestrator.pool import make_experts

    fit = lab_questions(n_fit, "val", held_out_wording=False, seed=seed)
    test = lab_questions(n, "test", held_out_wording=True, seed=seed)
    tell(f"asking every expert {len(fit) + len(test)} questions")
    limit = config.limits.max_tokens
    asyncio.run(
        record_outcomes([*fit, *test], make_experts(config), ledger, max_tokens=limit)
    )  # fmt: skip
    of_test = {q.query_id for q in test}
    calls = list(ledger.recorded_calls())
    return (
        [c for c in calls if c.completion.call.query_id not in of_test],
        [c for c in calls if c.completion.call.query_id in of_test],
    )


def format_comparison(c: Comparison) -> list[Table]:
    """On new wordings and on hidden categories: who says what, and what that is worth."""
    v = c.fallback_price_usd
    tables = []
    for title, rows in (
        (f"{c.known[0].n} questions with new wordings (fitted on {c.n_fit})", c.known),
        ("The same, each annotated without its category", c.hidden),
    ):
        tables += [_said_table(title, rows), _worth_table(rows, v)]
    return tables


def _said_table(title: str, rows: Sequence[AnnotatorFigures]) -> Table:
    figures = ("skill", "95 %", "category", "95 %", "log loss", "ECE", "general")
    table = figures_table(("annotator",), figures, title=title)
    for f in rows:
        if math.isnan(f.skill_accuracy):
            continue
        table.add_row(
            f.annotator,
            percent(f.skill_accuracy),
            percent_range(f.skill_accuracy_ci, digits=0),
            percent(f.category_accuracy),
            percent_range(f.category_accuracy_ci, digits=0),
            f"{f.log_loss:.2f}",
            f"{f.ece:.3f}",
            percent(f.general),
        )
    return table


def _worth_table(rows: Sequence[AnnotatorFigures], v: float) -> Table:
    caption = (
        f"asked: the annotation alone; right: the expert that is then asked; $/1k: dollars of "
        f"1000 questions, with failures at {v:g} $ each; saved: against neighbours, 95 %."
    )
    figures = ("ms", "$/1k asked", "right", "$/1k", "saved")
    table = figures_table(("annotator",), figures, title=None, caption=caption)
    for f in rows:
        saved = f.objective_usd_saved
        table.add_row(
            f.annotator,
            f"{f.ms:.2g}",
            f"{1000 * f.usd:.2g}",
            percent(f.accuracy),
            usd(1000 * f.objective_usd),
            "-" if saved is None else usd_gained(saved),
        )
    return table
