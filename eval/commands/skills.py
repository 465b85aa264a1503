"""``conclave skills``: who is good at what, as a table or a picture; and the taxonomy behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from eval.commands.cells import figures_table, percent, percent_range, percent_with_range
from orchestrator.cli.options import ConfigOption, JsonOption
from orchestrator.cli.output import print_parts

if TYPE_CHECKING:
    from rich.table import Table

    from eval.skills.skill_map import By, SkillMap, Sort
    from skills.taxonomy import Taxonomy

group = typer.Typer(name="skills", help="Who is good at what, and the taxonomy of skills.")


def register(app: typer.Typer) -> None:
    app.add_typer(group)


@group.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    by: Annotated[str, typer.Option(help="Rows: category or skill.")] = "category",
    category: Annotated[
        str | None, typer.Option(help="Only this category, skill by skill.")
    ] = None,
    expert: Annotated[str | None, typer.Option(help="Only this expert.")] = None,
    sort: Annotated[
        str, typer.Option(help="taxonomy, name, best, doubt (widest first), n (fewest first).")
    ] = "taxonomy",
    out: Annotated[Path | None, typer.Option(help="Draw the map into this .svg file.")] = None,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """The map of who is good at what: chances to be right, with 95 % intervals.

    Fitted profiles, and the verdicts that the ledger has since. The best of each row is bold.
    """
    if context.invoked_subcommand is not None:
        return
    from eval.skills.heat_map import heat_map
    from eval.skills.skill_map import SORTS, SkillMap
    from eval.whole_files import write_whole
    from experts.errors import UnknownName
    from experts.expert import Pool
    from orchestrator.config import load_config
    from orchestrator.pool import make_experts
    from orchestrator.profiles import load_current
    from skills.embedders import make_embedder

    if by not in ("category", "skill"):
        raise UnknownName(by, ("category", "skill"), what="kind of rows")
    if sort not in SORTS:
        raise UnknownName(sort, SORTS, what="order")
    if out is not None:
        _check_picture(out)
    config = load_config(config_file)
    pool = Pool.of(make_experts(config).values())
    current = load_current(config, pool, make_embedder(config.embedder))
    profiles = current.profiles
    rows, order = cast("By", by), cast("Sort", sort)
    shown = SkillMap.of(profiles, by=rows, category=category, expert=expert, sort=order)
    told: dict[str, Any] = {
        **shown.told(),
        "annotator": current.fitted.annotator,
        "n_newer": current.n_newer,
    }
    if out is not None:
        write_whole(out, f"{heat_map(shown)}\n")
        told["out"] = str(out)
    if as_json:
        typer.echo(json.dumps(told))
        return
    print_parts(format_map(shown))
    if current.n_newer:
        typer.echo(f"With {current.n_newer} outcomes that were judged after the fit.")
    typer.echo(f"Drawn in {out}." if out else "As a picture: conclave skills --out skills.svg")


def _check_picture(path: Path) -> None:
    """Raises DataError for a name that is not .svg, or where no file can be written."""
    from eval.whole_files import check_target
    from experts.errors import DataError

    check_target(path, example="skills.svg")
    if path.suffix.lower() != ".svg":
        raise DataError(f"The map is drawn as SVG: name it {path.with_suffix('.svg')}, not {path}.")


def format_map(m: SkillMap) -> Table:
    """Percent right with the interval; rows are skills or categories. One expert alone is a row's
    figures in columns, its number of observations among them."""
    if len(m.experts) == 1:
        return _alone(m)
    title = f"Chance to be right (%), with 95 % interval, by {m.by}"
    table = figures_table((m.by,), (*m.experts, "n"), title=title)
    for i, row in enumerate(m.rows):
        cells = []
        for j in range(len(m.experts)):
            told = _cell(m, i, j)
            cells.append(f"[bold]{told}[/bold]" if int(m.best[i]) == j else told)
        table.add_row(row, *cells, _counts(m, i))
    return table


def _alone(m: SkillMap) -> Table:
    table = figures_table((m.by,), ("right", "95 %", "n"), title=m.experts[0])
    for i, row in enumerate(m.rows):
        table.add_row(
            row,
            percent(m.mean[i, 0]),
            percent_range((m.low[i, 0], m.high[i, 0]), digits=0),
            f"{m.n[i, 0]:.4g}",
        )
    return table


def _cell(m: SkillMap, i: int, j: int) -> str:
    return percent_with_range(m.mean[i, j], (m.low[i, j], m.high[i, j]), digits=0)


def _counts(m: SkillMap, i: int) -> str:
    """Observations of each expert; a range where they differ."""
    low, high = float(m.n[i].min()), float(m.n[i].max())
    return f"{low:.4g}" if high - low < 0.05 else f"{low:.4g}-{high:.4g}"


@group.command()
def taxonomy(
    file: Annotated[
        Path | None, typer.Argument(help="To check; by default the one that is configured.")
    ] = None,
    copy: Annotated[
        Path | None, typer.Option(help="Write a copy to edit; never over a file.")
    ] = None,
    as_json: JsonOption = False,
    config_file: ConfigOption = None,
) -> None:
    """Print and check the taxonomy: categories, their skills, a sentence about each.

    What is wrong is told with its line. Skills of recorded questions that the file does not have
    are told with the nearest name.
    """
    from orchestrator.config import load_config
    from orchestrator.ledger import Ledger
    from skills.taxonomy import Taxonomy

    config = load_config(config_file)
    path = file or config.taxonomy
    known = Taxonomy.load(path)
    unknown: list[tuple[str, str | None]] = []
    if config.ledger_path.exists():
        with Ledger(config.ledger_path) as ledger:
            unknown = [
                (name, known.nearest(name))
                for name in ledger.labelled_skills()
                if name not in known.names
            ]
    if copy is not None:
        _write_copy(known, copy)
    if as_json:
        told = {
            "file": None if path is None else str(path),
            "categories": {
                c: {s.name: s.description for s in known.skills if s.category == c}
                for c in known.categories
            },
            "n_skills": len(known.skills),
            "unknown_labels": [{"skill": n, "nearest": near} for n, near in unknown],
            "copy": None if copy is None else str(copy),
        }
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        print_parts(format_taxonomy(known))
        for line in _advice(known, path, copy, unknown):
            typer.echo(line)
    if unknown:
        raise typer.Exit(1)


def format_taxonomy(t: Taxonomy) -> Table:
    """Skills under their categories."""
    from rich.table import Table

    table = Table("category", "skill", "what it is")
    for category in t.categories:
        members = [s for s in t.skills if s.category == category]
        for k, skill in enumerate(members):
            table.add_row(category if k == 0 else "", skill.name, skill.description)
        table.add_section()
    return table


def _advice(
    t: Taxonomy, path: Path | None, copy: Path | None, unknown: list[tuple[str, str | None]]
) -> list[str]:
    lines = [
        f"{len(t.skills)} skills in {len(t.categories)} categories, "
        f"of {'the shipped taxonomy' if path is None else path}."
    ]
    for name, near in unknown:
        hint = f" Did you mean {near!r}?" if near else ""
        lines.append(
            f"Recorded questions have the skill {name!r}, which is not in it.{hint} Add it, or "
            "record them with another skill."
        )
    edited = copy or path
    if edited is None:
        lines.append("To make it yours: conclave skills taxonomy --copy my-taxonomy.json")
    else:
        lines.append(
            f"Edit {edited}, check it with conclave skills taxonomy {edited}, write `taxonomy: "
            f"{edited}` in conclave.yaml, and fit again: conclave fit"
        )
    return lines


def _write_copy(t: Taxonomy, path: Path) -> None:
    from experts.errors import DataError

    tree = {
        c: {s.name: s.description for s in t.skills if s.category == c} for c in t.categories
    }  # fmt: skip
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(f"{json.dumps(tree, indent=2, ensure_ascii=False)}\n")
    except FileExistsError:
        raise DataError(f"{path} exists. Name another file, or move it away.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from None
