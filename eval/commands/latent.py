"""``conclave latent``: train and evaluate the heads by which several models answer as one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.commands.cells import figures_table, percent_with_range
from eval.commands.latent_scorer import scorer
from orchestrator.cli.options import JsonOption
from orchestrator.cli.output import print_parts

if TYPE_CHECKING:
    from rich.table import Table

    from eval.latent.accuracy import KindFigures
    from experts.latent.plan import TrainingPlan
    from experts.latent.training.examples import Example

latent = typer.Typer(
    name="latent",
    help="Latent experts: several models that answer as one (docs/latent.md).",
    no_args_is_help=True,
)

MemberOption = Annotated[
    list[str] | None,
    typer.Option("--member", help="NAME=FOLDER, once a model; the three bundled ones by default."),
]


def register(app: typer.Typer) -> None:
    latent.command()(scorer)
    app.add_typer(latent)


@latent.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder to write the head into.")] = Path("head"),
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML or JSON: form, seed, steps, ...; `conclave latent plan` shows all."
        ),
    ] = None,
    member: MemberOption = None,
    questions: Annotated[
        Path | None,
        typer.Option(help="JSONL with question and answer; composites that are drawn by default."),
    ] = None,
    n: Annotated[
        int, typer.Option(help="Questions to draw, where no file is named.", min=30)
    ] = 12_000,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Train a head for frozen models, some ten minutes for the bundled ones on two cores.

    Goes on from a checkpoint in the folder. The last line is JSON.
    """
    from experts.latent.training.heads import Job, train_heads

    plan = read_plan(config)
    job = Job(name=out.name, plan=plan, questions=_examples(questions, n, plan.seed), folder=out)
    with training_bar(as_json) as tell:
        [trained] = train_heads([job], _folders(member), device=device, tell=tell).values()
    if not as_json:
        then = "name it in conclave.yaml (docs/latent.md)"
        if not member:
            then = f"conclave latent evaluate --head {out}"
        typer.echo(f"Trained into {out}. Next: {then}")
    typer.echo(json.dumps({"head": str(out), "trained": trained}))


@latent.command()
def plan() -> None:
    """Everything that --config can say, with its defaults, as JSON."""
    from dataclasses import asdict

    typer.echo(json.dumps(asdict(read_plan(None)), indent=2))


@latent.command()
def evaluate(
    head: Annotated[Path | None, typer.Option(help="Folder of a head; the bundled one.")] = None,
    n: Annotated[int, typer.Option(help="Questions of each kind.", min=1)] = 200,
    split: Annotated[str, typer.Option(help="val for choosing, test for reporting.")] = "val",
    seed: Annotated[int, typer.Option(help="Which questions are drawn.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """A head of the bundled members beside them, question by question; the last line is JSON."""
    from eval.json_ready import json_ready
    from eval.latent.accuracy import accuracy, report_object
    from experts.errors import UserError
    from experts.latent.expert import BUNDLED_HEAD
    from experts.latent.net.team import Team

    if split not in ("val", "test"):
        raise UserError(f"--split is {split!r}; questions are of val or test.")
    team = Team.load(head or BUNDLED_HEAD, _folders(None))
    found = accuracy(team, n=n, split="test" if split == "test" else "val", seed=seed)
    if not as_json:
        print_parts(format_accuracy(found, team.card.form))
    typer.echo(json.dumps(json_ready(report_object(found)), allow_nan=False))


def format_accuracy(found: Mapping[str, KindFigures], form: str) -> Table:
    """A line a kind of question."""
    names = tuple(next(iter(found.values())).ways)
    table = figures_table(
        ("kind",),
        ("n", *names),
        title=f"Right answers, {form}",
        caption="95 % intervals. `any member` is the best router that could be: right where one of "
        "the members is. `two calls` is told whom to ask.",
    )
    for kind, figures in found.items():
        cells = (percent_with_range(e.value, e.ci) for e in figures.ways.values())
        table.add_row(kind, str(figures.n), *cells)
    return table


def read_plan(path: Path | None) -> TrainingPlan:
    """Raises ConfigError for a file that is none, and for keys and values that are not known."""
    from pydantic import TypeAdapter, ValidationError
    from yaml import YAMLError, safe_load

    from experts.errors import ConfigError
    from experts.latent.plan import TrainingPlan

    if path is None:
        return TrainingPlan()
    try:
        told = safe_load(path.read_text(encoding="utf-8")) or {}
        if not isinstance(told, dict):
            raise ConfigError(f"{path} is not a plan: it holds no `key: value`.")
        unknown = sorted(set(told) - set(TrainingPlan.__dataclass_fields__))
        if unknown:
            raise ConfigError(
                f"{path}: unknown {', '.join(map(repr, unknown))}. `conclave latent plan` shows "
                "all that can be said."
            )
        return TypeAdapter(TrainingPlan).validate_python(told)
    except FileNotFoundError:
        raise ConfigError(f"There is no {path}.") from None
    except (OSError, UnicodeDecodeError, YAMLError, TypeError) as error:
        raise ConfigError(f"{path} is not a plan: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: `{where}`: {first['msg']}.") from None


def _folders(members: list[str] | None) -> dict[str, Path]:
    """Raises ConfigError for what is not NAME=FOLDER."""
    from experts.bundled import FOLDER, LATENT_MEMBERS
    from experts.errors import ConfigError

    if not members:
        return {name: FOLDER / name for name in LATENT_MEMBERS}
    folders: dict[str, Path] = {}
    for told in members:
        name, equals, folder = told.partition("=")
        if not (name.isidentifier() and equals and (Path(folder) / "config.json").is_file()):
            raise ConfigError(
                f"--member {told}: write NAME=FOLDER, a Hugging Face model folder (config.json, "
                "*.safetensors, tokenizer.json)."
            )
        folders[name] = Path(folder)
    if len(folders) < 2:
        raise ConfigError("A latent expert has at least two members: name --member twice.")
    return folders


def _examples(path: Path | None, n: int, seed: int) -> list[Example]:
    from eval.questions import read_questions
    from experts.lab.composites.questions import training_questions
    from experts.latent.training.examples import Example

    if path is None:
        return [Example(q.text, q.answer) for q in training_questions(n, seed=seed)]
    return [Example(q.question, q.answer) for q in read_questions(path)]


class training_bar:  # noqa: N801 - a context manager that reads like a function
    """Shows where training stands: bars for people, tenths for logs, nothing with --json."""

    def __init__(self, as_json: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._quiet = as_json
        self._progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=as_json or not os.isatty(2),
        )
        self._tasks: dict[str, Any] = {}
        self._told: dict[str, int] = {}

    def __enter__(self) -> Any:
        self._progress.__enter__()
        return self._tell

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)

    def _tell(self, name: str, p: Any) -> None:
        title = f"{name}: {p.phase}"
        total = p.n_steps or 12
        if title not in self._tasks:
            self._tasks[title] = self._progress.add_task(title, total=total, loss=p.loss)
        self._progress.update(self._tasks[title], completed=p.step, total=total, loss=p.loss)
        fifth = 5 * p.step // total
        if not self._quiet and self._progress.disable and fifth > self._told.get(title, 0):
            self._told[title] = fifth
            typer.echo(
                f"{title} {p.step}/{total}  loss {p.loss:.3f}  {p.elapsed_s:.0f} s", err=True
            )
