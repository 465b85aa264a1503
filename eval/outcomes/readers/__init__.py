"""Readers of other projects' outcome files, and the one door to them: ``read_outcomes``.

A reader turns files as they were published into an ``OutcomeMatrix``. What a source does not tell
stays unknown: no price is NaN, never 0; a question that a model was not asked is NaN. Queries of
sources without a split for routers get one by their prompt (``eval/outcomes/splits.py``). Each
format has a module that says which fields it reads and where they were looked up. No
code of those projects is used, and none of their data is shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from eval.outcomes.matrix import OutcomeMatrix, read_matrix
from eval.outcomes.readers import (
    inspect_ai,
    llmrouterbench,
    mmlu_pro,
    routellm,
    routerarena,
    routerbench,
    zeroeval,
)
from experts.errors import DataError, did_you_mean


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """A format, and how it is read."""

    what: str
    """Which files, in a line."""
    recognises: Callable[[Path], bool]
    """Whether a path looks like it; reads little and raises nothing."""
    read: Callable[[Path], OutcomeMatrix]
    read_trusting: Callable[[Path], OutcomeMatrix] | None = None
    """The same, pickles included; None where the format has none."""


def _is_conclave(path: Path) -> bool:
    return all(
        any((path / f"{name}{ending}").is_file() for ending in ("", ".gz"))
        for name in ("queries.jsonl", "outcomes.csv")
    )


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "conclave": Reader(
            what="a folder with queries.jsonl and outcomes.csv, gzipped or not",
            recognises=_is_conclave,
            read=read_matrix,
        ),
        "routerbench": Reader(
            what="a wide table, CSV or pickle, with <model>|model_response columns",
            recognises=routerbench.recognises,
            read=routerbench.read,
            read_trusting=partial(routerbench.read, allow_pickle=True),
        ),
        "routerarena": Reader(
            what="cached_results/<model>.jsonl",
            recognises=routerarena.recognises,
            read=routerarena.read,
        ),
        "llmrouterbench": Reader(
            what="results/bench/<dataset>/<split>/<model>/<timestamp>.json",
            recognises=llmrouterbench.recognises,
            read=llmrouterbench.read,
        ),
        "routellm": Reader(
            what="routellm/evals: mmlu_<subject>.csv and gsm8k_responses.csv",
            recognises=routellm.recognises,
            read=routellm.read,
        ),
        "mmlu_pro": Reader(
            what="model_outputs_<model>_5shots.json or .zip",
            recognises=mmlu_pro.recognises,
            read=mmlu_pro.read,
        ),
        "zeroeval": Reader(
            what="result_dirs/<task>/<model>.json",
            recognises=zeroeval.recognises,
            read=zeroeval.read,
        ),
        "inspect_ai": Reader(
            what="Inspect's logs, .eval or .json",
            recognises=inspect_ai.recognises,
            read=inspect_ai.read,
        ),
    }
)


def read_outcomes(
    path: Path, fmt: str | None = None, *, allow_pickle: bool = False
) -> OutcomeMatrix:
    """Outcomes at ``path``, a file or a folder.

    Without ``fmt`` the format is recognised: Conclave's own by its two file names, others by the
    names of the columns or fields in the first 64 KiB of the first file that could be theirs.

    Raises DataError for an unknown format, for a path that looks like none or several of them, for
    a pickle unless ``allow_pickle`` (opening one runs the code in it), and for whatever is wrong
    with the files, naming file and line.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    fmt = _recognised(path) if fmt is None else fmt
    if fmt not in READERS:
        raise DataError(
            f"Unknown format {fmt!r}.{did_you_mean(fmt, READERS)} Known: {', '.join(READERS)}."
        )
    reader = READERS[fmt]
    return (reader.read_trusting if allow_pickle and reader.read_trusting else reader.read)(path)


def _recognised(path: Path) -> str:
    found = [name for name, reader in READERS.items() if reader.recognises(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"{path} looks like {' and '.join(found)}. Say which (fmt=...), or keep them in "
            "folders of their own."
        )
    known = "\n".join(f"  {name}: {reader.what}" for name, reader in READERS.items())
    raise DataError(f"{path} looks like none of the formats that can be read:\n{known}")
