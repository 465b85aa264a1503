"""Options and first steps that the commands on recorded outcomes share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from eval.outcomes.matrix import OutcomeMatrix

DataOption = Annotated[Path, typer.Option(help="Recorded outcomes: a folder or file.")]
PoolOption = Annotated[
    str | None,
    typer.Option(help="A named pool, or a JSON list of models; all well-covered ones else."),
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", help="Format of the data; recognised when not given."),
]
PickleOption = Annotated[
    bool, typer.Option(help="Open pickles: they can run code. Only for files you trust.")
]
SplitOption = Annotated[
    str, typer.Option(help="Which queries: train, val, test, dev (all but test), or all.")
]


def of_split(matrix: OutcomeMatrix, name: str) -> OutcomeMatrix:
    """The queries of a split; ``dev`` is everything but test, queries without a split included.

    Raises UnknownName, or DataError when there is none.
    """
    import numpy as np

    from eval.outcomes.matrix import SPLITS
    from experts.errors import DataError, UnknownName

    if name == "all":
        return matrix
    if name in SPLITS:
        return matrix.split(name)
    if name != "dev":
        raise UnknownName(name, (*SPLITS, "dev", "all"), what="split")
    rows = np.array([q.split != "test" for q in matrix.queries], bool)
    if not rows.any():
        raise DataError(
            "All queries are of the test split. What is read off them must not be used to choose "
            "anything; if that is what you want, say --split test."
        )
    return matrix[rows]


def teller(as_json: bool) -> Callable[[str], None]:
    """Tells people, on stderr, what is being done; nobody else."""
    if as_json:
        return lambda what: None
    return lambda what: typer.echo(f"  {what} ...", err=True)
