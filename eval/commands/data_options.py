"""Options and first steps that the commands on recorded outcomes share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experts.errors import UserError

if TYPE_CHECKING:
    from eval.outcomes.matrix import OutcomeMatrix
    from orchestrator.config import Config

_DATA_HELP = "Recorded outcomes: a folder or file."
DataOption = Annotated[Path, typer.Option(help=_DATA_HELP)]
DataOrLedgerOption = Annotated[Path | None, typer.Option(help=_DATA_HELP)]
LedgerOption = Annotated[
    bool,
    typer.Option("--ledger", help="What conclave record has recorded, in place of --data."),
]
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
EmbedderOption = Annotated[str, typer.Option(help="As in conclave.yaml; two are joined by a plus.")]
USUAL_EMBEDDER = "minilm+hashing-512"
SplitOption = Annotated[
    str, typer.Option(help="Which queries: train, val, test, dev (all but test), or all.")
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where outcomes come from: recorded ones of others, or one's own ledger.

    Raises UserError where it is both or none.
    """

    data: Path | None
    ledger: bool
    fmt: str | None
    allow_pickle: bool

    def __post_init__(self) -> None:
        if self.ledger == (self.data is not None):
            raise UserError("Name the outcomes: either --data FOLDER, or --ledger for your own.")

    def __str__(self) -> str:
        return "ledger" if self.data is None else str(self.data)

    def read(self, config: Config) -> OutcomeMatrix:
        """All of them, of every model."""
        from eval.outcomes.from_ledger import matrix_of_config
        from eval.outcomes.readers import read_outcomes

        if self.data is None:
            return matrix_of_config(config)
        return read_outcomes(self.data, self.fmt, allow_pickle=self.allow_pickle)


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
